"""What a person decides on a candidate that waits: recorded in the lineage, and the push that it lets through. No TFX.

The Gate's decision is never edited. A person's is an execution of its own in the same run, whose output is a `Decision`
with the verdicts of the first; the Pusher then runs alone, on that. The approval stands as RUNNING until the push has
ended, so that one which was cut off goes on when `approve` is called again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ml_metadata.proto import metadata_store_pb2

from components.gate.work import bless
from components.lineage.acts import record_missed_rollbacks
from components.lineage.reader import APPROVAL_NODE, APPROVAL_TYPE, RECORD_PROPERTY, Lineage
from components.lineage.served import newest_push, saved_model_of
from components.lineage.writer import put_in_run
from components.pusher.work import publish_candidate, state_before
from components.work import Call, write_record
from schemas.config import PushConfig
from schemas.decision import DECISION_FILE, Approval, Decision, EdgeDecision, Outcome, PushResult
from schemas.errors import ApprovalError, DigestMismatchError
from serving import payload
from serving.store import open_versions

__all__ = ["Pending", "approve", "pending", "reject"]

_Execution = metadata_store_pb2.Execution
_NEWER = ("pending", "push", "already_served")


@dataclass(frozen=True)
class Pending:
    """A candidate that waits for a person.

    Attributes:
        run_id: of its run.
        pipeline: name of the pipeline.
        decision: of the Gate.
        gate_output: the Decision artifact.
        pusher: the Pusher's execution that pushed nothing, and the Model artifact that it was given.
        model: the candidate.
        files: its `.tflite` files, an artifact; None where none were made.
        root: pipeline root.
        approved: the approval whose push was cut off, an execution; else None.
    """

    run_id: str
    pipeline: str
    decision: Decision
    gate_output: Any
    pusher: Any
    model: Any
    files: Any | None
    root: Path
    approved: Any | None = None


def pending(store: Any, lineage: Lineage, run_id: str, pipeline: str) -> Pending:
    """The candidate of a run that waits.

    Raises:
        ApprovalError: it waits for nobody: the run came to no decision, to another one, or a person has settled it.
    """
    executions = lineage.executions(run_id)
    decision = lineage.decision(run_id)
    settled = store.get_execution_by_type_and_name(APPROVAL_TYPE, run_id)
    if settled is not None and settled.last_known_state == _Execution.COMPLETE:
        values = {key: value.string_value for key, value in settled.custom_properties.items()}
        problem = f"was {values['outcome']} by {values['by']} on {values['at']}: {values['reason']}"
        raise ApprovalError(
            f"run {run_id}", problem, remedy="What is settled is not settled again: run the pipeline anew."
        )
    if decision is None or "Pusher" not in executions:
        raise ApprovalError(
            f"run {run_id}",
            "has not ended with a decision",
            expected="a run whose outcome is pending",
            remedy="`satisfice runs` lists the outcomes; `satisfice run --resume` goes on with a run that was cut off.",
        )
    if settled is None and decision.outcome != "pending":
        raise ApprovalError(
            f"run {run_id}",
            "does not wait for approval",
            expected="a decision that is pending",
            got=f"{decision.outcome}: {decision.reasons[0] if decision.reasons else ''}",
            remedy=f"`satisfice why {run_id}` tells more; an approval cannot lift a block.",
        )
    (gate_output,) = _artifacts(store, executions["Gate"].id, "decision", metadata_store_pb2.Event.OUTPUT)
    pusher = executions["Pusher"]
    (model,) = _artifacts(store, pusher.id, "model", metadata_store_pb2.Event.INPUT)
    files = next(iter(_artifacts(store, pusher.id, "tflite", metadata_store_pb2.Event.INPUT)), None)
    root = Path(gate_output.uri).parents[2]
    return Pending(run_id, pipeline, decision, gate_output, pusher, model, files, root, settled)


def approve(store: Any, lineage: Lineage, waiting: Pending, approval: Approval) -> tuple[Decision, PushResult]:
    """Records the approval, blesses the candidate, and runs the Pusher alone: SavedModel and `.tflite` file go together.

    An approval whose push was cut off stands, and the push goes on.

    Raises:
        ApprovalError: another model is served than the one that the candidate was compared with, or a later run came to
            a candidate of its own; since the approval was cut off, too.
        DigestMismatchError: the candidate's bytes are not those that were measured.
        StoreError: the store cannot publish; calling it again goes on from there.
    """
    push = PushConfig.model_validate_json(waiting.pusher.custom_properties["push"].string_value)
    _refuse_what_is_overtaken(store, lineage, waiting, push)
    _refuse_changed_bytes(waiting)
    execution, output = waiting.approved, None
    if execution is None:
        decision = _decided(waiting.decision, approval, "push")
        execution, output = _record(store, waiting, decision, _Execution.RUNNING)
    else:
        (output,) = _artifacts(store, execution.id, "decision", metadata_store_pb2.Event.OUTPUT)
        decision = Decision.model_validate_json(output.custom_properties[RECORD_PROPERTY].string_value)
    result = _push(store, waiting, decision, output, push)
    _finish(store, execution, "blocked" if result.blocked else result.outcome)
    return decision, result


def reject(store: Any, waiting: Pending, approval: Approval) -> Decision:
    """Records that the candidate is not to be pushed.

    Raises:
        ApprovalError: it was approved, and its push was cut off.
    """
    if waiting.approved is not None:
        by = waiting.approved.custom_properties["by"].string_value
        raise ApprovalError(
            f"run {waiting.run_id}",
            f"was approved by {by}, and its push was cut off",
            remedy="`satisfice approve` goes on.",
        )
    decision = _decided(waiting.decision, approval, "block")
    execution, _ = _record(store, waiting, decision, _Execution.RUNNING)
    _finish(store, execution, "rejected")
    return decision


def _decided(waiting: Decision, approval: Approval, outcome: Literal["push", "block"]) -> Decision:
    """The decision that waited, as a person settled it."""
    told = f"{'approved' if outcome == 'push' else 'rejected'} by {approval.by}: {approval.reason}"
    return waiting.model_copy(
        update={
            "outcome": outcome,
            "approval": approval,
            "reasons": (told, *waiting.reasons[1:]),
            "edge": _settled(waiting.edge, outcome, told),
        }
    )


def _settled(edge: EdgeDecision | None, outcome: Outcome, told: str) -> EdgeDecision | None:
    """The decision on the files, where it waited too; one that was blocked by itself stays so."""
    if edge is None or edge.outcome != "pending":
        return edge
    return edge.model_copy(update={"outcome": outcome, "reasons": (told, *edge.reasons[1:])})


def _refuse_what_is_overtaken(store: Any, lineage: Lineage, waiting: Pending, push: PushConfig) -> None:
    for run in lineage.runs():
        if run.run_id == waiting.run_id:
            break
        later = lineage.decision(run.run_id)
        if later is not None and later.outcome in _NEWER:
            raise ApprovalError(
                f"run {waiting.run_id}",
                f"is superseded by run {run.run_id}, which came to {later.outcome}",
                remedy=f"`satisfice why {run.run_id}` shows the newer candidate.",
            )
    _refuse_another_champion(store, waiting, waiting.decision, push.serving.base_path, "another model is served")
    edge = waiting.decision.edge
    if push.edge is not None and edge is not None and edge.outcome == "pending":
        _refuse_another_champion(store, waiting, edge, push.edge.base_path, "devices have another file")


def _refuse_another_champion(
    store: Any, waiting: Pending, decision: Decision | EdgeDecision, base_path: str, problem: str
) -> None:
    record_missed_rollbacks(store, waiting.pipeline, open_versions(base_path), base_path)
    served = newest_push(store.get_artifacts_by_type("PushedModel"), base_path)
    digest = served.custom_properties["digest"].string_value if served is not None else ""
    if digest not in (decision.champion_digest, decision.digest):
        compared = decision.champion_version
        raise ApprovalError(
            f"run {waiting.run_id}",
            f"{problem} than the one that the candidate was compared with",
            expected=f"version {compared}" if compared else "none",
            got=f"version {served.custom_properties['version'].int_value}" if served is not None else "none",
            remedy="Run the pipeline: the candidate is compared anew.",
        )


def _refuse_changed_bytes(waiting: Pending) -> None:
    path = saved_model_of(waiting.model)
    found = payload.digest(path)
    if found != waiting.decision.digest:
        raise DigestMismatchError(
            str(path),
            "does not hold the bytes that were measured and judged",
            expected=f"the digest {waiting.decision.digest}",
            got=found,
            remedy="Run the pipeline: it makes the model anew, and judges it.",
        )


def _record(store: Any, waiting: Pending, decision: Decision, state: Any) -> tuple[Any, Any]:
    """The execution that stands for what a person decided, and the decision that it puts out.

    An approval puts out a blessing as the Gate would have, had it admitted the candidate; the Gate's own is never edited.
    """
    assert decision.approval is not None
    output = metadata_store_pb2.Artifact(
        type_id=waiting.gate_output.type_id,
        uri=str(waiting.root / APPROVAL_NODE / "decision" / waiting.run_id),
        state=metadata_store_pb2.Artifact.LIVE,
    )
    output.properties["outcome"].string_value = decision.outcome
    output.properties["digest"].string_value = decision.digest
    write_record(output, DECISION_FILE, decision)
    kind = metadata_store_pb2.ExecutionType(name=APPROVAL_TYPE)
    type_id = store.put_execution_type(kind, can_add_fields=True)
    execution = _Execution(type_id=type_id, name=waiting.run_id, last_known_state=state)
    for key, value in decision.approval.model_dump().items():
        execution.custom_properties[key].string_value = value
    return put_in_run(
        store,
        execution,
        (waiting.pipeline, waiting.run_id, APPROVAL_NODE),
        inputs={"decision": waiting.gate_output},
        outputs={"decision": output, **_blessing(store, waiting, decision)},
    ), output


def _blessing(store: Any, waiting: Pending, decision: Decision) -> dict[str, Any]:
    if decision.outcome != "push":
        return {}
    kind = metadata_store_pb2.ArtifactType(name="ModelBlessing")
    blessing = metadata_store_pb2.Artifact(
        type_id=store.put_artifact_type(kind, can_add_fields=True, can_omit_fields=True),
        uri=str(waiting.root / APPROVAL_NODE / "blessing" / waiting.run_id),
        state=metadata_store_pb2.Artifact.LIVE,
    )
    bless(blessing, waiting.model, blessed=True)
    return {"blessing": blessing}


def _push(store: Any, waiting: Pending, decision: Decision, output: Any, push: PushConfig) -> PushResult:
    """Runs the Pusher, as an execution of its own."""
    place = (waiting.pipeline, waiting.run_id, "Pusher")
    parameters = _strings(waiting.pusher.custom_properties)
    parameters["served_state"] = state_before(decision, push)
    execution = _Execution(type_id=waiting.pusher.type_id, last_known_state=_Execution.RUNNING)
    for key, value in parameters.items():
        execution.custom_properties[key].string_value = value
    given = {"model": waiting.model, "decision": output, **({"tflite": waiting.files} if waiting.files else {})}
    execution = put_in_run(store, execution, place, inputs=given)
    pushed = {
        key: metadata_store_pb2.Artifact(
            type_id=store.get_artifact_type("PushedModel").id,
            uri=str(waiting.root / "Pusher" / key / str(execution.id)),
            state=metadata_store_pb2.Artifact.LIVE,
        )
        for key in ("pushed_model", *(["pushed_file"] if waiting.files and push.edge else []))
    }
    inputs = {key: [artifact] for key, artifact in given.items()}
    try:
        publish_candidate(Call(inputs, pushed, parameters, waiting.run_id))
    except Exception:
        for artifact in pushed.values():
            shutil.rmtree(artifact.uri, ignore_errors=True)
        execution.last_known_state = _Execution.FAILED
        store.put_executions([execution])
        raise
    execution.last_known_state = _Execution.COMPLETE
    put_in_run(store, execution, place, outputs=pushed)
    return PushResult.model_validate_json(pushed["pushed_model"].custom_properties[RECORD_PROPERTY].string_value)


def _finish(store: Any, execution: Any, result: str) -> None:
    execution.last_known_state = _Execution.COMPLETE
    execution.custom_properties["result"].string_value = result
    store.put_executions([execution])


def _artifacts(store: Any, execution_id: int, key: str, kind: Any) -> list[Any]:
    events = store.get_events_by_execution_ids([execution_id])
    ids = [event.artifact_id for event in events if event.type == kind and event.path.steps[0].key == key]
    return list(store.get_artifacts_by_id(ids))


def _strings(properties: Mapping[str, Any]) -> dict[str, str]:
    return {key: value.string_value for key, value in properties.items() if value.HasField("string_value")}
