"""How good the model now served is on labelled rows that its run had not read. Imports neither TFX nor TensorFlow.

It is evaluated in a process of its own, on the bytes that are served, by the Evaluator's own code; and judged as a gate
judges, with intervals, so that noise asks for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.example_gen.spans import versions_of
from components.gate.decide import Champion, decide
from components.gate.words import shown
from components.lineage.files_read import FILES_PROPERTY, FilesRead
from components.lineage.reader import Lineage
from components.lineage.served import saved_model_of
from components.lineage.trained_on import examples_of
from components.profiler.spawn import Child, Outcome
from schemas.config import GatesConfig, PipelineConfig, QualityTrigger, SourceConfig
from schemas.decision import Figure, GateResult
from schemas.errors import Fault, SatisficeError, close_match
from schemas.metrics import QUALITY
from schemas.source_path import uses_spans
from schemas.tick import Quality
from serving import payload
from serving.store import is_remote

__all__ = ["MODULE", "Evaluate", "evaluate", "quality_faults", "quality_of"]

MODULE = "components.evaluator.alone"
_TIMEOUT_S = 3600.0
_LEVELS = ("fail", "inconclusive", "not_measured", "pass")

Evaluate = Callable[[Mapping[str, Any]], Outcome]
"""Evaluates a `components.evaluator.alone.Job`, given as plain JSON values."""


def evaluate(job: Mapping[str, Any], begun: Callable[[Child], None] = lambda _: None) -> Outcome:
    """In a process of its own.

    Args:
        job: a `components.evaluator.alone.Job`.
        begun: is given the process, so that it can be stopped.
    """
    with tempfile.TemporaryDirectory(prefix="satisfice-watch-") as folder:
        child = Child(MODULE, job, Path(folder), "evaluate")
        begun(child)
        return child.wait(_TIMEOUT_S)


def quality_faults(config: PipelineConfig, columns: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with the trigger.

    Args:
        config: with the trigger.
        columns: of the data schema.
    """
    trigger = _trigger(config)
    place = "schedule.triggers.decayed_quality"
    if trigger.max_drop is not None and trigger.metric not in _recorded(config.gates):
        expected = (
            f"one that a gate on the whole eval split names: {', '.join(_recorded(config.gates)) or 'there is none'}"
        )
        yield Fault(
            f"{place}.metric", "is in no decision, so that a drop cannot be told", expected, trigger.metric,
            close_match(trigger.metric, _recorded(config.gates)),
        )  # fmt: skip
    for name in trigger.labelled:
        if name not in columns:
            yield Fault(
                f"{place}.labelled", "is no column of the data schema", "columns that it names", name,
                close_match(name, columns),
            )  # fmt: skip
    if not trigger.labelled and config.model.label not in columns:
        problem = f"is missing: the label {config.model.label!r} is made of columns, and nothing says of which"
        yield Fault(f"{place}.labelled", problem, "columns without whose values a row has no label: labelled: [NAME]")


def quality_of(
    config: PipelineConfig, store: Any, push: Any | None, files: Mapping[Path, str], schema: str, run: Evaluate
) -> Quality:
    """Measures and judges.

    Args:
        config: with the trigger.
        store: the metadata store.
        push: the push record of the model now served, an `ml_metadata` Artifact proto; None where nothing is served.
        files: of the source, with the SHA-256 of each.
        schema: the data schema in text format.
        run: evaluates.
    """
    trigger = _trigger(config)
    if push is None:
        return _not_measured(trigger, "nothing is served yet")
    served = _Served.of(config, store, push)
    if served.problem or served.read is None:
        return _not_measured(trigger, served.problem)
    new = [file for file, digest in files.items() if digest not in served.read.contents]
    if not new:
        reason = f"no rows have come that {served.name} was not made of"
        return Quality(metric=trigger.metric, n=0, verdict="too_few_examples", reason=reason)
    grown = _grown(config.data.source, new, files, served.read)
    then = served.figure(trigger.metric)
    outcome = run(
        {
            "model": str(served.model),
            "digest": served.digest,
            "label": config.model.label,
            "gates": _gates(trigger, config.gates.intervals).model_dump(mode="json"),
            "schema": schema,
            "format": config.data.source.format,
            "files": [str(file) for file in new if file not in grown],
            "grown": [str(file) for file in grown],
            "splits": dict(config.data.splits),
            "labelled": list(trigger.labelled or (config.model.label,)),
            "least": trigger.min_examples,
        }
    )
    if outcome.result is None:
        return _not_measured(trigger, f"{served.name} could not be evaluated: {outcome.problem}")
    return _judged(trigger, served, then, outcome.result)


def _grown(source: SourceConfig, new: list[Path], files: Mapping[Path, str], read: FilesRead) -> list[Path]:
    """The files that may hold rows which were read for the model.

    Other content was read under the same path, or as another version of the span. Where a run reads the newest span alone,
    or a file that was read is gone, a new file may be the whole of what there is, the rows of before included.
    """
    if not uses_spans(source.path):
        replaced = not read.digests.keys() <= files.keys()
        return [file for file in new if replaced or file in read.digests]
    if source.window is None:
        return new
    known = versions_of(source.path, read.digests)
    return [file for file in new if file in read.digests or known.keys() & versions_of(source.path, [file]).keys()]


def _judged(trigger: QualityTrigger, served: _Served, then: Figure | None, result: Mapping[str, Any]) -> Quality:
    rows = int(result["rows"])
    if rows < trigger.min_examples:
        reason = f"{rows:,} of {trigger.min_examples:,} newly labelled rows, by which {served.name} could be judged"
        return Quality(metric=trigger.metric, n=rows, verdict="too_few_examples", reason=reason)
    found = (Figure.model_validate(one, strict=False) for one in result["figures"])
    figure = next((one for one in found if one.metric == trigger.metric), None)
    if figure is None or figure.value is None:
        why = figure.why_not if figure is not None else ""
        return _not_measured(trigger, f"{trigger.metric} of {served.name} {why or 'is no number on these rows'}")
    champion = Champion("", served.version, [then] if then is not None else [], called=f"{served.name} at its decision")
    results = decide(_gates(trigger, "none"), served.digest, [figure], champion).gates
    worst = min(results, key=lambda one: (_LEVELS.index(one.verdict), one.margin or 0.0))
    return _told(trigger, served, then, figure, rows, worst)


def _told(
    trigger: QualityTrigger, served: _Served, then: Figure | None, figure: Figure, rows: int, worst: GateResult
) -> Quality:
    assert figure.value is not None
    low, high = figure.interval or (figure.value, figure.value)
    was = f"; {shown(then.value)} when it was decided on" if then is not None and then.value is not None else ""
    told = {
        "fail": f"past the limit of {shown(worst.limit or 0.0)}",
        "inconclusive": f"and the limit of {shown(worst.limit or 0.0)} lies inside the noise",
        "pass": f"within the limit of {shown(worst.limit or 0.0)}",
    }.get(worst.verdict, worst.reason)
    name = f"{trigger.metric} of {served.name} on {rows:,} newly labelled rows"
    return Quality(
        metric=trigger.metric,
        value=figure.value,
        interval=figure.interval,
        n=rows,
        then=then.value if then is not None else None,
        limit=worst.limit,
        verdict=worst.verdict if worst.verdict in ("fail", "inconclusive", "pass") else "not_measured",
        shortfall=-worst.margin if worst.verdict == "fail" and worst.margin is not None else 0.0,
        reason=f"{name} is {shown(figure.value)} ({shown(low)} to {shown(high)}{was}), {told}",
    )


@dataclass(frozen=True)
class _Served:
    """The model now served.

    Attributes:
        version, digest: as it was pushed.
        model: folder of its bytes.
        read: the files that it was made of.
        run: id of the run that made it; "" where that is not known.
        lineage: of the pipeline.
        problem: why it cannot be evaluated; "" where it can.
    """

    version: int
    digest: str
    model: Path
    read: FilesRead | None
    lineage: Lineage
    problem: str = ""

    @classmethod
    def of(cls, config: PipelineConfig, store: Any, push: Any) -> _Served:
        values = push.custom_properties
        version, digest = values["version"].int_value, values["digest"].string_value
        model_id = values["model_id"].int_value
        model = Path(config.push.serving.base_path) / str(version)
        if is_remote(config.push.serving.base_path):
            made = next(iter(store.get_artifacts_by_id([model_id])), None)
            model = saved_model_of(made) if made is not None else Path()
        examples = examples_of(store, model_id)
        record = examples.custom_properties[FILES_PROPERTY].string_value if examples is not None else ""
        read = FilesRead.of(record)
        problem = _problem_of(model, digest, f"version {version}")
        if not problem and read is None:
            problem = (
                f"which files version {version} was made of is not in the lineage: its run was before that was kept"
            )
        return cls(version, digest, model, read, Lineage(config.metadata, config.name, store), problem)

    @property
    def name(self) -> str:
        return f"version {self.version}"

    def figure(self, metric: str) -> Figure | None:
        """By which it was decided on, on the whole eval split."""
        run = self.lineage.run_of_version(self.version)
        decision = self.lineage.decision(run) if run is not None else None
        found = [
            one
            for one in (decision.gates if decision is not None else ())
            if one.metric == metric and one.payload == "saved_model" and not one.slice and one.value is not None
            if one.condition != "max_gap"
        ]
        best = min(found, key=lambda one: one.champion is not None, default=None)  # whose interval is its own
        if best is None:
            return None
        interval = best.interval if best.champion is None else None
        return Figure(metric=metric, value=best.value, digest="", n=best.n, interval=interval)


def _problem_of(model: Path, digest: str, name: str) -> str:
    """What is wrong with the bytes; "" where they are those that were pushed."""
    try:
        found = payload.digest(model)
    except (SatisficeError, OSError) as error:
        return f"the SavedModel of {name} cannot be read: {error}"
    return "" if found == digest else f"the SavedModel of {name} is not what was pushed: {model}"


def _recorded(gates: GatesConfig) -> list[str]:
    """Metrics of which a decision holds the figure on the whole split."""
    own = [gate.metric for gate in gates.satisfy if not gate.slice_by and gate.payload == "saved_model"]
    names = [*([gates.optimize.metric] if gates.optimize else []), *own]
    return [name for name in dict.fromkeys(names) if name in QUALITY]


def _gates(trigger: QualityTrigger, intervals: str) -> GatesConfig:
    return GatesConfig.model_validate({"satisfy": trigger.gates, "intervals": intervals})


def _not_measured(trigger: QualityTrigger, reason: str) -> Quality:
    return Quality(metric=trigger.metric, verdict="not_measured", reason=f"quality was not measured: {reason}")


def _trigger(config: PipelineConfig) -> QualityTrigger:
    assert config.schedule is not None
    trigger = config.schedule.triggers.decayed_quality
    assert trigger is not None, "looked at where the trigger is given"
    return trigger
