"""Reads the decision, has the candidate published or not, and writes down which. No TFX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.lineage.served import saved_model_of
from components.pusher.publish import push
from components.work import Call, write_record
from schemas.config import PushConfig
from schemas.decision import DECISION_FILE, PUSH_RESULT_FILE, Decision
from serving.store import VersionStore

__all__ = ["publish_candidate"]


def publish_candidate(call: Call) -> None:
    """Publishes the candidate if the decision admits it; a decision that forbids it is no failure.

    Raises:
        DigestMismatchError: the candidate's bytes are not those that were measured.
        StoreError: the push was due and failed; nothing half-written is visible.
    """
    model = call.one("model")
    decision = Decision.model_validate_json(Path(call.one("decision").uri, DECISION_FILE).read_bytes())
    serving = PushConfig.model_validate_json(call.parameters["push"]).serving
    record = push(
        decision,
        saved_model_of(model),
        VersionStore(serving.base_path),
        _provenance(call, model, decision),
        serving.keep_versions,
    )
    pushed_model = call.outputs["pushed_model"]
    write_record(pushed_model, PUSH_RESULT_FILE, record.result)
    for name, value in record.properties(model.id, serving.base_path).items():
        if isinstance(value, int):
            pushed_model.custom_properties[name].int_value = value
        else:
            pushed_model.custom_properties[name].string_value = value


def _provenance(call: Call, model: Any, decision: Decision) -> dict[str, str]:
    approved = {"approved_by": decision.approval.by} if decision.approval else {}
    return {
        "pipeline": call.parameters["pipeline_name"],
        "run": call.run_id,
        "model_id": str(model.id),
        "model_uri": model.uri,
        "config_digest": decision.config_digest,
        **approved,
    }
