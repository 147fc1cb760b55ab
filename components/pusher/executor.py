"""Reads the decision, has the candidate published or not, and writes down which."""

from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.lineage.reader import RECORD_PROPERTY
from components.pusher.publish import PushRecord, push
from schemas.config import PushConfig
from schemas.decision import DECISION_FILE, PUSH_RESULT_FILE, Decision
from serving.store import VersionStore


class Executor(base_executor.BaseExecutor):
    """Executor of `Pusher`. It completes when the decision forbids a push; it fails when a push that was due fails."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes the candidate if the decision admits it. See `Pusher` for what it reads and writes."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        uri = artifact_utils.get_single_uri(input_dict["decision"])
        decision = Decision.model_validate_json(Path(uri, DECISION_FILE).read_bytes())
        base_path = PushConfig.model_validate_json(exec_properties["push"]).serving.base_path
        record = push(
            decision,
            Path(path_utils.serving_model_path(model.uri)),
            VersionStore(base_path),
            self._provenance(model, decision, exec_properties["pipeline_name"]),
        )
        _write_down(record, artifact_utils.get_single_instance(output_dict["pushed_model"]), model.id, base_path)

    def _provenance(self, model: types.Artifact, decision: Decision, pipeline_name: str) -> dict[str, str]:
        run_id = self._context.pipeline_run_id if self._context else None
        return {
            "pipeline": pipeline_name,
            "run": run_id or "",
            "model_id": str(model.id),
            "model_uri": model.uri,
            "config_digest": decision.config_digest,
        }


def _write_down(record: PushRecord, pushed_model: types.Artifact, model_id: int, base_path: str) -> None:
    folder = Path(pushed_model.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PUSH_RESULT_FILE).write_text(record.result.model_dump_json(indent=2), encoding="utf-8")
    pushed_model.set_string_custom_property(RECORD_PROPERTY, record.result.model_dump_json())
    for name, value in record.properties(model_id, base_path).items():
        if isinstance(value, int):
            pushed_model.set_int_custom_property(name, value)
        else:
            pushed_model.set_string_custom_property(name, value)
