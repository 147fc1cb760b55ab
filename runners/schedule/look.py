"""Looks at what a tick decides by: the data, the model now served, the newest run. Imports neither TFX nor TensorFlow.

The files are read once for their fingerprint. Their rows are read only where a trigger asks for their number or for
drift, and only where they, or what they are held against, have changed since the last tick.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data_gate.baseline import read_baseline
from components.data_gate.counts import count_rows
from components.data_gate.drift import Side, compare
from components.data_gate.drift import columns_of as values_of
from components.data_gate.limits import faults_of, limits_of
from components.example_gen.columns import columns_of
from components.example_gen.fingerprint import Snapshot
from components.example_gen.read import read_batches
from components.example_gen.source_files import find_files
from components.example_gen.spans import Window, find_spans, versions_of, window_of
from components.lineage.files_read import FILES_PROPERTY, FilesRead
from components.lineage.reader import Lineage, RunRecord
from components.lineage.trained_on import TrainedOn, examples_of, trained_on
from runners.schedule.arrivals import Held, Runs, arrivals, runs_of
from runners.schedule.decide import ATTEMPTS
from runners.schedule.quality import Evaluate, evaluate, quality_faults, quality_of
from schemas.config import PipelineConfig, SourceConfig
from schemas.decision import Comparison
from schemas.errors import ConfigError, Fault, SatisficeError
from schemas.source_path import uses_spans
from schemas.tick import Drift, Looked, Run, Tick

__all__ = ["check_schedule", "look", "schedule_faults"]


def check_schedule(config: PipelineConfig, source: str) -> None:
    """Makes sure that the triggers are on what there is.

    Args:
        config: with a schedule.
        source: the configuration's file, for messages.

    Raises:
        ConfigError: they are not; or the schema cannot be read.
    """
    faults = list(schedule_faults(config))
    if faults:
        raise ConfigError(source, faults)


def schedule_faults(config: PipelineConfig) -> Iterator[Fault]:
    """Limits on what is no feature, spans of a source that has none, quality that cannot be measured."""
    if config.schedule is None:
        return
    features, triggers = _features(config), config.schedule.triggers
    yield from faults_of(config.data.validate_, features)
    if triggers.new_span and not uses_spans(config.data.source.path):
        expected = "{SPAN}, or {YYYY}, {MM} and {DD}, in data.source.path; or changed_data"
        yield Fault("schedule.triggers.new_span", "is given, but the source has no spans", expected)
    if triggers.decayed_quality is not None:
        yield from quality_faults(config, features)


@dataclass(frozen=True)
class _Trained:
    """What the newest run which ended, well or blocked, has read.

    Attributes:
        data: fingerprint; "" where there is no such run.
        rows: their number; None where it is not known.
        read: the files; likewise.
    """

    data: str = ""
    rows: int | None = None
    read: FilesRead | None = None


@dataclass(frozen=True)
class _There:
    """What there is to read now.

    Attributes:
        files: with the SHA-256 of each.
        window: of spans; None where the source has none.
        older: numbers of the spans before it.
    """

    snapshot: Snapshot
    window: Window | None = None
    older: Runs = ()

    @property
    def files(self) -> dict[Path, str]:
        return self.snapshot.digests

    @classmethod
    def of(cls, source: SourceConfig) -> _There:
        found = window_of(source)
        if found is None:
            return cls(Snapshot.of(find_files(source.path)))
        first = found.spans[0].number
        older = runs_of(span.number for span in find_spans(source.path) if span.number < first)
        return cls(Snapshot.of(found.files), found, older)

    def unread(self, read: FilesRead) -> list[Path]:
        """The files whose content was not read."""
        return [file for file, digest in self.files.items() if digest not in read.contents]


def look(
    config: PipelineConfig, store: Any, at: datetime, running: str, previous: Tick | None, run: Evaluate = evaluate
) -> Looked:
    """What a tick looks at.

    Args:
        config: with a schedule.
        store: the metadata store.
        at: now, UTC.
        running: who holds the pipeline root, in words; the data are not looked at then.
        previous: the last tick at which nobody did.
        run: evaluates the model now served.
    """
    lineage = Lineage(config.metadata, config.name, store)
    runs = lineage.runs()
    served = trained_on(store, store.get_artifacts_by_type("PushedModel"), config.push.serving.base_path)
    looked = Looked(
        at=at,
        champion=served.push.custom_properties["version"].int_value if served.push is not None else None,
        last_run=next((_run(one) for one in runs if _span_of(one) == config.data.source.span), None),
        running=running,
        cut_off=previous is not None and _is_cut_off(previous),
    )
    if running:
        return looked
    before = previous.looked if previous else None
    try:
        there = _There.of(config.data.source)
        trained = _trained(lineage, runs, there.window)
        looked = looked.model_copy(update=_arrived(config, there, trained, before))
        looked = looked.model_copy(update=_measured(config, store, served, there, trained, before, run))
        for file in there.files:
            there.snapshot.check(file)
    except SatisficeError as error:
        return looked.model_copy(update={"problem": str(error)})
    return looked


def _arrived(config: PipelineConfig, there: _There, trained: _Trained, before: Looked | None) -> dict[str, Any]:
    """What the source's files are, and which of their spans the newest run had not read."""
    read = trained.read
    found: dict[str, Any] = {
        "trained_data": trained.data,
        "trained_rows": trained.rows,
        "data": there.snapshot.fingerprint,
        "files": len(there.files),
        "read_known": read is not None,
        "same_rows": read is not None and sorted(there.files.values()) == sorted(read.digests.values()),
    }
    if there.window is None:
        return found
    held = Held(versions_of(config.data.source.path, read.digests), read.contents) if read is not None else None
    known = before is not None and bool(before.spans)
    older_before = (*before.older, *runs_of(number for number, _ in before.spans)) if before is not None else ()
    return {
        **found,
        "spans": tuple((span.number, span.version) for span in there.window.spans),
        "older": there.older,
        "missing": there.window.missing_names,
        "arrivals": arrivals(there.window, there.files, held, there.older, older_before if known else None),
    }


def _measured(
    config: PipelineConfig,
    store: Any,
    served: TrainedOn,
    there: _There,
    trained: _Trained,
    before: Looked | None,
    run: Evaluate,
) -> dict[str, Any]:
    """Rows, drift and quality, as far as triggers ask for them; those of the last tick where nothing has changed since."""
    assert config.schedule is not None
    triggers = config.schedule.triggers
    asked = _asked(config, served, trained)
    same = before is not None and (before.data, before.asked) == (there.snapshot.fingerprint, asked)
    found: dict[str, Any] = {"asked": asked}
    if same and before is not None and before.rows is not None:
        found |= {"rows": before.rows, "new_rows": before.new_rows, "drift": before.drift}
    elif triggers.drift or triggers.new_rows:
        found |= _rows_and_drift(config, store, served, there, trained)
    if triggers.decayed_quality is not None:
        known = before.quality if same and before is not None else None
        if known is None or known.verdict == "not_measured":
            known = quality_of(config, store, served.push, there.files, _schema(config), run)
        found["quality"] = known
    return found


def _rows_and_drift(
    config: PipelineConfig, store: Any, served: TrainedOn, there: _There, trained: _Trained
) -> dict[str, Any]:
    """In one pass over the rows. Of spans drift is that of the rows on which the model now served was not trained."""
    validate, features = config.data.validate_, _features(config)
    baseline, statistics = read_baseline(served.push, served.statistics, served.statistics)
    then = values_of(statistics) if statistics is not None else {}
    fresh = _fresh(store, served, there)
    counted: Counter[Path] = Counter()
    _, now = count_rows(_batches(config, fresh, counted), features, then)
    count_rows(_batches(config, [file for file in there.files if file not in fresh], counted), features, {})
    found: dict[str, Any] = {"rows": counted.total()}
    if there.window is not None and trained.read is not None:
        found["new_rows"] = sum(counted[file] for file in there.unread(trained.read))
    assert config.schedule is not None
    if not config.schedule.triggers.drift:
        return found
    if statistics is None:
        return {**found, "drift": Drift(reason=baseline.reason)}
    side = Side(f"version {baseline.version}", then)
    limits = limits_of(validate.drift, features)
    compared = compare("drift", limits, "source", now, side, "retrain", validate.min_examples)
    return {**found, "drift": _drift(list(compared))}


def _fresh(store: Any, served: TrainedOn, there: _There) -> list[Path]:
    """The files whose rows are held against the data of the model now served; all of them where none is new to it."""
    if there.window is None or served.push is None:
        return list(there.files)
    examples = examples_of(store, served.push.custom_properties["model_id"].int_value)
    record = examples.custom_properties[FILES_PROPERTY].string_value if examples is not None else ""
    read = FilesRead.of(record)
    return (there.unread(read) if read is not None else []) or list(there.files)


def _drift(comparisons: list[Comparison]) -> Drift:
    worst = max(comparisons, key=_excess, default=None)
    if worst is None:
        return Drift(reason="no feature has a limit")
    judged = worst.verdict in ("pass", "exceeded")
    return Drift(
        feature=worst.feature,
        measure=worst.measure,
        value=worst.value if judged else None,
        limit=worst.limit,
        excess=_excess(worst),
        reason=worst.reason,
    )


def _excess(comparison: Comparison) -> float:
    """The distance over its limit; of values that are gone or of another type, the largest distance that there is."""
    limit = max(comparison.limit, 1e-6)
    if comparison.verdict == "not_measured":
        return 1.000001 / limit
    judged = comparison.verdict in ("pass", "exceeded") and comparison.value is not None
    return comparison.value / limit if judged and comparison.value is not None else 0.0


def _batches(config: PipelineConfig, files: list[Path], counted: Counter[Path]) -> Iterator[Any]:
    columns = columns_of(_schema(config))
    for file in files:
        for batch in read_batches(file, config.data.source.format, columns):
            counted[file] += batch.num_rows
            yield batch


def _schema(config: PipelineConfig) -> str:
    path = Path(config.data.schema_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SatisficeError(str(path), f"cannot be read: {error}", remedy="Correct data.schema.") from error


def _features(config: PipelineConfig) -> Mapping[str, str]:
    return {name: kind.value for name, kind in columns_of(_schema(config)).items()}


def _asked(config: PipelineConfig, served: TrainedOn, trained: _Trained) -> str:
    """What was asked of the rows, but for them."""
    assert config.schedule is not None
    statistics = int(served.statistics.id) if served.statistics is not None else 0
    push = int(served.push.id) if served.push is not None else 0
    triggers = config.schedule.triggers.model_dump(mode="json")
    parts = [config.data.validate_.model_dump(mode="json"), dict(_features(config)), statistics]
    parts += [triggers, push, trained.data]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _trained(lineage: Lineage, runs: list[RunRecord], window: Window | None) -> _Trained:
    """Of the newest run which ended; of runs on spans the one whose data end latest, as a backfill looks back.

    Runs whose data end after the window, with a span that is gone or was named otherwise, count where there are no others.
    """
    ended = [run for run in runs if run.outcome not in ("failed", "unfinished")]
    upto = _last_span(str(window)) if window is not None else None
    for run in sorted(ended, key=lambda run: _rank(run.spans, upto), reverse=True):
        for node in lineage.nodes(run):
            for output in node.outputs:
                if output.type == "Examples" and "input_fingerprint" in output.properties:
                    read = FilesRead.of(str(output.properties.get(FILES_PROPERTY, "")))
                    rows = output.properties.get("rows_in")
                    return _Trained(str(output.properties["input_fingerprint"]), rows, read)
    return _Trained()


def _rank(spans: str, upto: tuple[str, int] | None) -> tuple[str, int]:
    """Where a run's data end, given where those of the source do; the lowest rank where that is no span of the source."""
    last = _last_span(spans)
    return last if upto is not None and last <= upto else ("", -1)


def _last_span(spans: str) -> tuple[str, int]:
    """What spans in words end with, so that they can be compared: dates by their text, numbers by their value."""
    name = spans.rpartition(", ")[2].partition(" ")[0]
    return ("", int(name)) if name.isdecimal() else (name, 0)


def _span_of(run: RunRecord) -> Any:
    """The span that the run's configuration names, as a backfill and `--span` have it named; None where it names none."""
    return json.loads(run.config or "{}").get("data", {}).get("source", {}).get("span")


def _run(record: RunRecord) -> Run:
    started = datetime.fromtimestamp(record.started_ms / 1000, UTC)
    return Run(run_id=record.run_id, started=started, outcome=record.outcome)


def _is_cut_off(previous: Tick) -> bool:
    """Whether the run of the last tick has not ended, or one before it had not and could not be begun again yet."""
    decision = previous.decision
    if decision.retrain:
        return not previous.ended
    return previous.looked.cut_off and decision.memory.attempts < ATTEMPTS
