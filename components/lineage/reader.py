"""Answers questions from the lineage: which runs there were, what each node did, what was decided and pushed.

Imports ml_metadata and nothing heavier, so that a command that only reads answers at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2

from components.lineage.store import open_store
from schemas.config import MetadataConfig
from schemas.decision import DataDecision, Decision, Payload, PushResult
from schemas.errors import MetadataError, close_match

__all__ = [
    "APPROVAL_NODE",
    "APPROVAL_TYPE",
    "RECORD_PROPERTY",
    "RUN_TYPE",
    "Lineage",
    "NodeRecord",
    "OutputRecord",
    "RunRecord",
]

RUN_TYPE = "satisfice.Run"
APPROVAL_TYPE = "satisfice.Approval"
APPROVAL_NODE = "Approval"
"""What a person decides on a run stands in it like a node of its own."""

RECORD_PROPERTY = "record"
"""Custom property that holds an artifact's record as JSON, so that the store alone can answer."""

_NODE = "node"
_PIPELINE_RUN = "pipeline_run"


@dataclass(frozen=True)
class OutputRecord:
    """An artifact that a node put out.

    Attributes:
        key: output key.
        type: artifact type.
        id: in the store.
        uri: where its files are.
        properties: own and custom, without the record.
    """

    key: str
    type: str
    id: int
    uri: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeRecord:
    """What one node did in one run.

    Attributes:
        node: its id.
        state: `ran`, `cached`, `failed`, `running`, `skipped` or `canceled`.
        started_ms, ended_ms: milliseconds since the epoch; 0 for a node that was skipped.
        reason: why it was skipped or failed; else "".
        outputs: its artifacts.
        progress: what it counted in this run, and how fast, as `components.progress.Progress.as_dict`; None where it
            counted nothing.
    """

    node: str
    state: str
    started_ms: int
    ended_ms: int
    reason: str = ""
    outputs: tuple[OutputRecord, ...] = ()
    progress: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Wall time between registration and publication."""
        return (self.ended_ms - self.started_ms) / 1000


@dataclass(frozen=True)
class RunRecord:
    """One run of a pipeline.

    Attributes:
        run_id: its name.
        pipeline: its pipeline's name.
        outcome: `pushed`, `already_served`, `blocked`, `data_blocked`, `pending`, `rejected`, `failed`, or `unfinished`
            where its process ended without a word or still runs. What a person decided later is in it.
        exit_code: None where unfinished.
        started_ms, ended_ms: milliseconds since the epoch.
        runner, user, host: how, by whom and where it ran.
        config_digest: of the resolved configuration.
        config: the resolved configuration, as JSON.
        error: the message, where it failed.
        skipped, failed: node id to the reason.
        progress: node id to what it counted, and how fast.
        spans: of the data that it read, in words; "" where they have none, or it came to none.
        missing_spans: those within its window that were not there.
    """

    run_id: str
    pipeline: str
    outcome: str
    exit_code: int | None
    started_ms: int
    ended_ms: int
    runner: str
    user: str
    host: str
    config_digest: str
    config: str = field(repr=False, default="")
    error: str = ""
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    spans: str = ""
    missing_spans: str = ""

    @property
    def seconds(self) -> float:
        """Wall time."""
        return (self.ended_ms - self.started_ms) / 1000

    def summary(self) -> dict[str, Any]:
        """What `satisfice runs --json` prints of it."""
        values = asdict(self)
        for key in ("config", "skipped", "failed", "progress"):
            values.pop(key)
        return {**values, "seconds": round(self.seconds, 3)}


class Lineage:
    """A view on the metadata store of one pipeline. It never writes."""

    def __init__(self, metadata: MetadataConfig, pipeline: str, store: Any = None) -> None:
        """Opens the store for reading.

        Args:
            metadata: the configuration's section.
            pipeline: name of the pipeline whose runs are asked for.
            store: an open store to use instead.

        Raises:
            MetadataError: where there is no store, or it cannot be opened.
        """
        self._store = store or open_store(metadata, read_only=True)
        self._pipeline = pipeline

    def runs(self) -> list[RunRecord]:
        """All runs of the pipeline, the newest first."""
        records = [_run(execution) for execution in self._store.get_executions_by_type(RUN_TYPE)]
        mine = [record for record in records if record.pipeline == self._pipeline]
        settled = {one.name: one for one in self._store.get_executions_by_type(APPROVAL_TYPE)}
        mine = [_settled(record, settled.get(record.run_id)) for record in mine]
        return sorted(mine, key=lambda record: (record.started_ms, record.run_id), reverse=True)

    def run(self, run_id: str) -> RunRecord:
        """One run: by its id, an unambiguous beginning of it, or `latest`.

        Raises:
            MetadataError: where there is none, or several begin so.
        """
        runs = self.runs()
        if run_id == "latest" and runs:
            return runs[0]
        exact = [run for run in runs if run.run_id == run_id]
        found = exact or [run for run in runs if run_id and run.run_id.startswith(run_id)]
        if len(found) == 1:
            return found[0]
        if found:
            raise MetadataError(f"run {run_id!r}", f"{len(found)} runs begin so", remedy="Give more of its id.")
        guess = close_match(run_id, [run.run_id for run in runs])
        hint = f"Did you mean {guess!r}? " if guess else ""
        raise MetadataError(
            f"run {run_id!r}",
            f"is not among the {len(runs)} runs of pipeline {self._pipeline!r}",
            remedy=f"{hint}`satisfice runs` lists them.",
        )

    def run_of_version(self, version: int, payload: Payload = "saved_model") -> str | None:
        """Id of the run that pushed a version, the newest where several base paths have it; None where none did.

        Of a version that a rollback made, it is the run that pushed the bytes first.

        Args:
            version: its number.
            payload: whether of SavedModels or of `.tflite` files.
        """
        context = self._store.get_context_by_type_and_name("pipeline", self._pipeline)
        pushed = [
            artifact
            for artifact in (self._store.get_artifacts_by_context(context.id) if context is not None else [])
            if artifact.type == "PushedModel"
            and artifact.custom_properties["pushed"].int_value == 1
            and artifact.custom_properties["version"].int_value == version
            and (artifact.custom_properties["payload"].string_value or "saved_model") == payload
            and artifact.custom_properties["rolled_back_to"].int_value != version  # a label went back to it
        ]
        if not pushed:
            return None
        newest = max(pushed, key=lambda artifact: int(artifact.id))
        older = newest.custom_properties["rolled_back_to"].int_value
        if 0 < older < version:
            return self.run_of_version(older, payload)
        events = self._store.get_events_by_artifact_ids([newest.id])
        first = min(event.execution_id for event in events if event.type in _OUTPUTS)
        contexts = self._store.get_contexts_by_execution(first)
        return next((str(one.name) for one in contexts if one.type == _PIPELINE_RUN), None)

    def nodes(self, run: RunRecord) -> list[NodeRecord]:
        """What each node did, in the order in which they began; nodes that were skipped come last."""
        executions = self.executions(run.run_id)
        records = [self._node(execution) for execution in executions.values()]
        records = [
            replace(record, reason=run.failed.get(record.node, ""), progress=run.progress.get(record.node))
            for record in records
        ]
        records.sort(key=lambda record: (record.started_ms, record.node))
        done = {record.node for record in records}
        skipped = [NodeRecord(n, "skipped", 0, 0, reason) for n, reason in run.skipped.items() if n not in done]
        return records + skipped

    def executions(self, run_id: str) -> dict[str, Any]:
        """Node id to its execution in a run; the latest where there are several."""
        context = self._store.get_context_by_type_and_name(_PIPELINE_RUN, run_id)
        if context is None:
            return {}
        found: dict[str, Any] = {}
        for execution in sorted(self._store.get_executions_by_context(context.id), key=lambda one: one.id):
            node = self._node_id(execution)
            if node:
                found[node] = execution
        return found

    def node(self, run_id: str, node: str) -> NodeRecord | None:
        """What one node did in a run, or None where the store holds no execution of it."""
        execution = self.executions(run_id).get(node)
        return self._node(execution) if execution is not None else None

    def spans(self, run_id: str) -> dict[str, str]:
        """`spans` and `missing_spans` of the data that a run has read, in words; nothing where they have none."""
        found = self._examples(run_id)
        return {name: str(found.get(name, "")) for name in ("spans", "missing_spans")} if "spans" in found else {}

    def data_of(self, run_id: str) -> str:
        """Fingerprint of the data that a run has read; "" where it has read none."""
        return str(self._examples(run_id).get("input_fingerprint", ""))

    def _examples(self, run_id: str) -> dict[str, Any]:
        """What ExampleGen tells of the data of a run."""
        record = self.node(run_id, "ExampleGen")
        outputs = record.outputs if record is not None else ()
        return next((output.properties for output in outputs if output.type == "Examples"), {})

    def decision(self, run_id: str) -> Decision | None:
        """The Gate's decision in a run, with what a person decided on it; None where there is none."""
        record = self._record(run_id, "Decision", producer=APPROVAL_NODE) or self._record(run_id, "Decision")
        return Decision.model_validate_json(record) if record else None

    def data_decision(self, run_id: str) -> DataDecision | None:
        """The data gate's decision in a run, or None where there is none."""
        record = self._record(run_id, "DataDecision")
        return DataDecision.model_validate_json(record) if record else None

    def push_result(self, run_id: str) -> PushResult | None:
        """What the Pusher did in a run, or None where it did not run."""
        record = self._record(run_id, "PushedModel", producer="Pusher", key="pushed_model")
        return PushResult.model_validate_json(record) if record else None

    def _record(self, run_id: str, artifact_type: str, producer: str = "", key: str = "") -> str | None:
        for node, execution in self.executions(run_id).items():
            if producer and node != producer:
                continue
            for output in self._outputs(execution, with_record=True):
                if output.type != artifact_type or (key and output.key != key):
                    continue
                if RECORD_PROPERTY in output.properties:
                    return str(output.properties[RECORD_PROPERTY])
        return None

    def _node_id(self, execution: Any) -> str:
        for context in self._store.get_contexts_by_execution(execution.id):
            if context.type == _NODE:
                return str(context.name).removeprefix(f"{self._pipeline}.")
        return ""

    def _node(self, execution: Any) -> NodeRecord:
        return NodeRecord(
            node=self._node_id(execution),
            state=_STATES.get(execution.last_known_state, "running"),
            started_ms=execution.create_time_since_epoch,
            ended_ms=execution.last_update_time_since_epoch,
            outputs=tuple(self._outputs(execution)),
        )

    def _outputs(self, execution: Any, *, with_record: bool = False) -> list[OutputRecord]:
        events = [event for event in self._store.get_events_by_execution_ids([execution.id]) if event.type in _OUTPUTS]
        artifacts = {one.id: one for one in self._store.get_artifacts_by_id([event.artifact_id for event in events])}
        outputs = []
        for event in events:
            artifact = artifacts[event.artifact_id]
            properties = {**_values(artifact.properties), **_values(artifact.custom_properties)}
            if not with_record:
                properties.pop(RECORD_PROPERTY, None)
            keys = [step.key for step in event.path.steps if step.HasField("key") and not step.key.startswith("_")]
            outputs += [OutputRecord(key, artifact.type, artifact.id, artifact.uri, properties) for key in keys]
        return outputs


_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
"""A resolver publishes what it found as internal output, and beside it, under `_`, what its condition read."""

_STATES = {
    metadata_store_pb2.Execution.COMPLETE: "ran",
    metadata_store_pb2.Execution.CACHED: "cached",
    metadata_store_pb2.Execution.FAILED: "failed",
    metadata_store_pb2.Execution.CANCELED: "canceled",
}


def _settled(run: RunRecord, approval: Any | None) -> RunRecord:
    """The run with what a person has decided on it; an approval counts once the push that it let through has ended."""
    if approval is None or approval.last_known_state != metadata_store_pb2.Execution.COMPLETE:
        return run
    return replace(run, outcome=approval.custom_properties["result"].string_value)


def _run(execution: Any) -> RunRecord:
    values = _values(execution.custom_properties)
    nodes = json.loads(values.get("nodes", "[]"))
    return RunRecord(
        run_id=execution.name,
        pipeline=values.get("pipeline", ""),
        outcome=values.get("outcome", "unfinished"),
        exit_code=values.get("exit_code"),
        started_ms=values.get("started_ms", execution.create_time_since_epoch),
        ended_ms=execution.last_update_time_since_epoch,
        runner=values.get("runner", ""),
        user=values.get("user", ""),
        host=values.get("host", ""),
        config_digest=values.get("config_digest", ""),
        config=values.get("config", ""),
        error=values.get("error", ""),
        skipped={node["node"]: node["reason"] for node in nodes if node["state"] == "skipped"},
        failed={node["node"]: node["reason"] for node in nodes if node["state"] == "failed"},
        progress={node["node"]: node["progress"] for node in nodes if "progress" in node},
        spans=values.get("spans", ""),
        missing_spans=values.get("missing_spans", ""),
    )


def _values(properties: Any) -> dict[str, Any]:
    found = {}
    for key, value in properties.items():
        kind = value.WhichOneof("value")
        if kind == "struct_value":
            found[key] = json_format.MessageToDict(value.struct_value)
        elif kind in ("int_value", "double_value", "string_value", "bool_value"):
            found[key] = getattr(value, kind)
    return found
