"""Reads the decision, has the candidate published or not, and writes down which. No TFX.

The payload is rehearsed before it is published: loaded into a fresh process, where its golden and warm-up requests are run.
The Profiler does that with the very process in which it measures the payload, and the decision carries what came of it
under the payload's digest: a push then loads nothing again. Where no Profiler ran, a process is started here, which takes
about a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.lineage.served import saved_model_of
from components.pusher.publish import SPAN, Checks, Inspected, PushRecord, push, served_state
from components.pusher.rehearse import rehearse
from components.tflite.edge import for_devices, push_file, push_state, vocabularies_of
from components.work import Call, write_record
from schemas.config import EdgeConfig, PushConfig, ServingPushConfig
from schemas.decision import DECISION_FILE, PUSH_RESULT_FILE, Confirmation, Decision, Payload, PushResult
from schemas.tflite import EXPORT_FILE, Export
from serving import payload, saved_model_file
from serving.compatible import compatible
from serving.golden import read_golden
from serving.store import open_versions

__all__ = ["publish_candidate", "state_before"]


def publish_candidate(call: Call) -> None:
    """Publishes the candidate if the decision admits it; a decision that forbids it is no failure.

    Raises:
        DigestMismatchError: the candidate's bytes are not those that were measured.
        StoreError: the push was due and failed; nothing half-written is visible.
    """
    model = call.one("model")
    decision = Decision.model_validate_json(Path(call.one("decision").uri, DECISION_FILE).read_bytes())
    config = PushConfig.model_validate_json(call.parameters["push"])
    serving = config.serving
    record = push(
        decision,
        saved_model_of(model),
        open_versions(serving.base_path),
        _provenance(call, model, decision),
        serving.keep_versions,
        _checks(serving, saved_model_of(model), decision, call.parameters["pipeline_name"]),
    )
    result = record.result
    files = call.any("tflite")
    if files is not None and config.edge is not None and decision.edge is not None:
        pushed = _push_file(call, files, model, decision, config.edge, record.result)
        result = result.model_copy(update={"edge": pushed.result})
        _write(call.outputs["pushed_file"], pushed, pushed.result, model.id, config.edge.base_path, "tflite")
    _write(call.outputs["pushed_model"], record, result, model.id, serving.base_path, "saved_model")


def state_before(decision: Decision, config: PushConfig) -> str:
    """What a recorded push depends on besides its inputs: see `components.pusher.publish.served_state`.

    Raises:
        StoreError: a base path cannot be read.
    """
    state = served_state(decision, open_versions(config.serving.base_path))
    return f"{state} edge {push_state(decision, config.edge.base_path)}" if config.edge and decision.edge else state


def _checks(serving: ServingPushConfig, model: Path, decision: Decision, name: str) -> Checks:
    """What the push depends on: the payload's own requests, the server's version, and servers that load it."""

    def inspect() -> Inspected:
        rehearsal = decision.rehearsal
        if rehearsal is None or rehearsal.digest != decision.digest:
            rehearsal = rehearse(model, decision.digest)
        refusal = rehearsal.problem
        warnings: tuple[str, ...] = ()
        if not refusal and serving.server_version is not None:
            refusal, warnings = _judged(model, serving.server_version)
        if serving.confirm is not None:
            warnings = ()  # the servers themselves are asked
        return Inspected(refusal, rehearsal, warnings)

    def confirm(version: int) -> tuple[Confirmation, ...]:
        if serving.confirm is None:
            return ()
        from serving.confirm import confirm as ask

        return ask(serving.confirm, name, version, read_golden(model))

    return Checks(inspect, confirm)


def _judged(model: Path, server: str) -> tuple[str, tuple[str, ...]]:
    """Why a server of that version does not load the model, and what is to be warned of."""
    graphs = saved_model_file.read(model).meta_graphs
    found = compatible(graphs[0].tensorflow, server)
    sentence = f"{found.reason[:1].upper()}{found.reason[1:]}."
    if found.verdict == "does_not":
        return f"does not load in TF Serving {server}: {found.reason}", ()
    return "", (sentence,) if found.verdict == "may_not" else ()


def _push_file(
    call: Call, files: Any, model: Any, decision: Decision, edge: EdgeConfig, pushed: PushResult
) -> PushRecord:
    """Publishes the `.tflite` file that was chosen, with what devices must know."""
    export = Export.model_validate_json(Path(files.uri, EXPORT_FILE).read_bytes())
    assert decision.edge is not None
    variant = export.of(decision.edge.variant)
    told = for_devices(export, variant, vocabularies_of(saved_model_of(model)), pushed.version) if variant else {}
    provenance = {**_provenance(call, model, decision), **told}
    file = Path(files.uri, decision.edge.variant, payload.TFLITE_NAME)
    return push_file(decision, file, edge, provenance)


def _write(artifact: Any, record: PushRecord, result: PushResult, model_id: int, base_path: str, kind: Payload) -> None:
    write_record(artifact, PUSH_RESULT_FILE, result)
    for name, value in record.properties(model_id, base_path, kind).items():
        if isinstance(value, int):
            artifact.custom_properties[name].int_value = value
        else:
            artifact.custom_properties[name].string_value = value


def _provenance(call: Call, model: Any, decision: Decision) -> dict[str, str]:
    approved = {"approved_by": decision.approval.by} if decision.approval else {}
    return {
        "pipeline": call.parameters["pipeline_name"],
        "run": call.run_id,
        "model_id": str(model.id),
        "model_uri": model.uri,
        "config_digest": decision.config_digest,
        **({SPAN: str(decision.span), "spans": decision.spans} if decision.span is not None else {}),
        **approved,
    }
