"""What a run on Kubeflow leaves in the lineage beside its nodes, and what is shown of it there. Imports no TFX.

The run's own record is opened by the first container and closed by the last one, each in a process and perhaps on a
machine of its own; what a node knows of its end stands meanwhile in a small file beside the artifacts.
"""

from __future__ import annotations

import html
import json
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components import progress
from components.code import OUR_PACKAGES, library_versions, sources_digest
from components.lineage import writer
from components.lineage.reader import RECORD_PROPERTY, RUN_TYPE, Lineage, RunRecord
from components.lineage.store import open_store
from runners.kubeflow.job import BeginJob, Source, TellJob
from runners.run import EXIT_CODES, Outcome, outcome_of
from runners.why import Why
from runners.why import why as ask
from schemas.config import MetadataConfig, PipelineConfig, config_digest
from schemas.decision import DataDecision, Decision
from schemas.errors import ConfigError, Fault, SatisficeError
from schemas.load import LoadedConfig

__all__ = ["NodeNote", "Page", "Shown", "begin", "close", "outcome_so_far", "shown", "told"]

RUNNER = "kubeflow"


# --- the beginning ----------------------------------------------------------------------------------------------------


def begin(job: BeginJob, run_id: str, values: Mapping[str, str]) -> str:
    """Checks that a run can be made here, and records that it has begun.

    Returns:
        The pipeline's name.

    Raises:
        SatisficeError: the image holds other code than that with which the pipeline was compiled.
        ConfigError: data, places, module or values of parameters are not as they should be.
        MetadataError: the store cannot be opened.
    """
    from components.lineage.acts import record_missed_rollbacks
    from pipeline.check import check
    from pipeline.user_module import locate_user_module
    from runners.beam import engine_faults
    from runners.kubeflow.values import schema_file, with_values
    from serving.store import open_versions

    started_ms = time.time_ns() // 1_000_000
    _refuse_other_code(job.source)
    config = with_values(job.source, values)
    with schema_file(job.source) as schema:
        here = config.model_copy(update={"data": config.data.model_copy(update={"schema_path": schema})})
        loaded = LoadedConfig(here, Path(job.source.file))
        module = check(loaded, Path(job.root), locate_user_module, engine_faults(here, job.root))
    _refuse_other_module(job.source, config, (module.preprocessing_fingerprint, module.build_model_fingerprint))
    if values:
        _leave_graph(job, config, run_id)
    store = open_store(config.metadata)
    base_path = config.push.serving.base_path
    record_missed_rollbacks(store, config.name, open_versions(base_path), base_path)
    description = config.model_dump_json(by_alias=True)
    writer.open_run(store, run_id, started_ms, config.name, description, config_digest(config), RUNNER)
    return config.name


def _leave_graph(job: BeginJob, config: PipelineConfig, run_id: str) -> None:
    """The graph of this run's values, built once for all of its nodes; nothing where they are those that were compiled."""
    from runners.kubeflow.part import leave_graph

    serialized = None
    if config != PipelineConfig.model_validate_json(job.source.config):
        from runners.kubeflow.build import rebuilt

        serialized = rebuilt(job.source, config, job.root)
    leave_graph(Path(job.root), run_id, serialized)


def _refuse_other_code(source: Source) -> None:
    remedy = "Build the image from the version that compiles, or compile with the version that the image holds."
    if sources_digest() != source.code:
        raise SatisficeError("the image", "holds other sources of Satisfice than those that compiled it", remedy=remedy)
    other = [f"{name} {version}" for name, version in library_versions().items() if source.libraries[name] != version]
    if other:
        compiled = ", ".join(f"{one.split()[0]} {source.libraries[one.split()[0]]}" for one in other)
        raise SatisficeError(
            "the image", "holds other libraries", expected=compiled, got=", ".join(other), remedy=remedy
        )


def _refuse_other_module(source: Source, config: PipelineConfig, found: tuple[str, str]) -> None:
    compiled = PipelineConfig.model_validate_json(source.config)
    if config.model.module.split(".")[0] in OUR_PACKAGES:  # one of ours, whose sources were compared
        return
    if config.model.module == compiled.model.module and found != source.fingerprints:
        problem = "is another one here than the one that was compiled"
        fault = Fault(
            "model.module", problem, "the same functions in the image, or beside the configuration", config.model.module
        )
        raise ConfigError("the image", [fault])


# --- the nodes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeNote:
    """What a container leaves behind of its node, for the last one to read.

    Attributes:
        root: pipeline root.
        run_id: of the run.
        node: id.
    """

    root: Path
    run_id: str
    node: str

    @property
    def file(self) -> Path:
        """Where it stands."""
        return self.root / "logs" / self.run_id / f"{self.node}.json"

    def write(self, state: str, seconds: float, reason: str) -> None:
        """Leaves the note: whole, or not at all."""
        counted = progress.counted()
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        record: dict[str, Any] = {
            "node": self.node,
            "state": state,
            "seconds": round(seconds, 3),
            "reason": reason,
            "peak_memory_mb": round(memory_mb, 1),
        }
        if counted is not None:
            record["progress"] = counted.as_dict()
        half = self.file.with_suffix(".half")
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(record), encoding="utf-8")
        os.replace(half, self.file)

    def read(self) -> dict[str, Any] | None:
        """What was left; None where nothing was."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found


def outcome_so_far(metadata: MetadataConfig, pipeline: str, run_id: str, store: Any) -> str:
    """How a run ends whose push has ended: `pushed`, `already_served`, `pending` or `blocked`."""
    lineage = Lineage(metadata, pipeline, store)
    return outcome_of(lineage.data_decision(run_id), lineage.decision(run_id), lineage.push_result(run_id))


def _record(artifact: Any) -> str:
    return str(artifact.custom_properties[RECORD_PROPERTY].string_value)


@dataclass(frozen=True)
class Shown:
    """What Kubeflow's page shows of a node.

    Attributes:
        texts: name of the output to its text.
        metrics: name to figure.
    """

    texts: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)


def shown(node: str, run_id: str, outputs: Mapping[str, list[Any]]) -> Shown:
    """What is shown of a gate: of the data, or of the model."""
    record = _record(outputs["decision"][0])
    run = _unfinished(run_id)
    if outputs["decision"][0].type == "DataDecision":
        data = DataDecision.model_validate_json(record)
        verdict = f"{node}: {data.outcome}"
        return Shown({"data": _data_markdown(verdict, data)})
    decision = Decision.model_validate_json(record)
    judged = Why(run, decision, None, None)
    verdict = f"{node}: {decision.outcome}"
    figures = {_metric_name(one): one.value for one in decision.gates if one.value is not None and not one.slice}
    return Shown({"gates": judged.markdown(verdict), "gates_page": judged.html(verdict)}, figures)


def _data_markdown(verdict: str, data: DataDecision) -> str:
    lines = [f"{one.severity}: {one.split}: {one.feature}: {one.reason}" for one in data.anomalies]
    lines += [f"{one.severity}: {one.reason}" for one in data.comparisons if one.deviates]
    rows = ", ".join(f"{split} {count:,}" for split, count in data.rows.items())
    found = "\n".join(f"- {line}" for line in lines) or "Nothing deviates."
    return f"**{verdict}**\n\nRows: {rows}\n\n{found}\n"


def _metric_name(result: Any) -> str:
    words = [result.payload] if result.payload != "saved_model" else []
    words += [result.metric, *([f"batch_{result.batch_size}"] if result.batch_size else [])]
    words += [f"against_{result.against}"] if result.against else []
    return "_".join(words)


# --- the end ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """What is shown of a run as a whole."""

    verdict: str
    markdown: str
    html: str


def told(job: TellJob, run_id: str) -> Page:
    """Why nothing was pushed, while the run still goes on.

    Raises:
        MetadataError: the store cannot be read.
    """
    lineage = Lineage(job.metadata, job.pipeline, open_store(job.metadata))
    found = ask(lineage, run_id)
    outcome = outcome_of(found.data_decision, found.decision, found.push)
    return _page(replace(found, run=replace(found.run, outcome=outcome)))


def close(job: TellJob, run_id: str) -> Page:
    """Records how a run ended, and shows it. A second call, as of a container that is tried again, records the same.

    Raises:
        MetadataError: the store cannot be read.
    """
    store = open_store(job.metadata)
    lineage = Lineage(job.metadata, job.pipeline, store)
    execution = store.get_execution_by_type_and_name(RUN_TYPE, run_id)
    if execution is None:
        return _never_began(job, run_id)
    nodes = _nodes(job, lineage, run_id)
    failed = [one for one in nodes if one["state"] == "failed"]
    decided = outcome_of(lineage.data_decision(run_id), lineage.decision(run_id), lineage.push_result(run_id))
    outcome: Outcome = "failed" if failed else decided
    error = f"node {failed[0]['node']}: {failed[0]['reason']}" if failed else ""
    if outcome == "failed" and not failed:
        error = "the run ended without a decision"
    writer.close_run(store, execution.id, outcome, EXIT_CODES[outcome], nodes, error, lineage.spans(run_id))
    return _page(ask(lineage, run_id), nodes)


def _never_began(job: TellJob, run_id: str) -> Page:
    """A run that was refused is none, and leaves no record."""
    note = NodeNote(Path(job.root), run_id, "Begin").read()
    cause = note["reason"] if note else "The log of the container Begin says why."
    verdict = f"Run {run_id}: refused before anything was run."
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><h1>{html.escape(verdict)}</h1><p>{html.escape(cause)}</p></html>\n'
    return Page(verdict, f"**{verdict}**\n\n{_cell(cause)}\n", page)


def _nodes(job: TellJob, lineage: Lineage, run_id: str) -> list[dict[str, Any]]:
    """One record for each node: as its container left it, as the lineage has it, or why it did not run."""
    found: dict[str, dict[str, Any]] = {}
    for node, upstream in job.nodes.items():
        left = NodeNote(Path(job.root), run_id, node).read()
        record = lineage.node(run_id, node)
        if left is not None:
            found[node] = left
        elif record is not None:
            found[node] = {
                "node": node,
                "state": "failed",
                "seconds": round(record.seconds, 3),
                "reason": f"its container ended without a word ({record.state})",
            }
        else:
            found[node] = {"node": node, "state": "skipped", "seconds": 0.0, "reason": _why_skipped(upstream, found)}
    return list(found.values())


def _why_skipped(upstream: tuple[str, ...], found: Mapping[str, dict[str, Any]]) -> str:
    for name in upstream:
        if found[name]["state"] == "failed":
            return f"needs {name}, which failed"
    for name in upstream:
        if found[name]["state"] == "skipped":
            return str(found[name]["reason"])
    return "its condition is not met"


def _page(found: Why, nodes: list[dict[str, Any]] | None = None) -> Page:
    text = found.markdown()
    if nodes:
        rows = "\n".join(
            f"| {one['node']} | {one['state']} | {one['seconds']:.1f} | {_cell(one['reason'])} |" for one in nodes
        )
        text = f"{text}\n\n| node | state | seconds | reason |\n| --- | --- | --- | --- |\n{rows}"
    return Page(found.verdict, f"{text}\n", found.html())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _unfinished(run_id: str) -> RunRecord:
    return RunRecord(run_id, "", "unfinished", None, 0, 0, RUNNER, "", "", "")
