"""Reads the figures of candidate and champion, has them judged, writes the decision and the standard blessing."""

import json
import os
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.evaluation.figures import read_figures
from components.gate.decide import Champion, decide
from components.lineage.reader import RECORD_PROPERTY
from schemas.config import GatesConfig
from schemas.decision import DECISION_FILE, TRAINING_FILE
from schemas.errors import DigestMismatchError
from serving import payload


class Executor(base_executor.BaseExecutor):
    """Executor of `Gate`. It completes whatever it decides; a block is no failure."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judges the candidate. See `Gate` for what it reads and writes."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        digest = _measured_digest(model, artifact_utils.get_single_uri(input_dict["model_run"]))
        evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
        decision = decide(
            GatesConfig.model_validate_json(exec_properties["gates"]),
            digest,
            read_figures(evaluation, digest, champion=False),
            _champion(input_dict.get("served") or [], digest, evaluation),
            exec_properties["config_digest"],
        )
        output = artifact_utils.get_single_instance(output_dict["decision"])
        output.outcome = decision.outcome
        output.digest = digest
        output.set_string_custom_property(RECORD_PROPERTY, decision.model_dump_json())
        io_utils.write_string_file(os.path.join(output.uri, DECISION_FILE), decision.model_dump_json(indent=2))
        _bless(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            model,
            decision.outcome in ("push", "already_served"),
        )


def _measured_digest(model: types.Artifact, model_run: str) -> str:
    """The digest of the candidate's bytes, which have to be the ones that the Trainer made and the Evaluator loaded.

    Raises:
        DigestMismatchError: they were changed since.
    """
    path = path_utils.serving_model_path(model.uri)
    made = json.loads(Path(model_run, TRAINING_FILE).read_text(encoding="utf-8"))["digest"]
    found = payload.digest(path)
    if found != made:
        raise DigestMismatchError(
            path,
            "does not hold the bytes that were trained and evaluated",
            expected=f"the digest {made}",
            got=found,
            remedy=f"Remove the folder {model.uri}: the next run trains anew.",
        )
    return found


def _champion(served: list[types.Artifact], digest: str, evaluation: str) -> Champion | None:
    """The champion, from the push record that the resolver found; its figures where it was evaluated."""
    if not served:
        return None
    pushed = served[0]
    its_digest = pushed.get_string_custom_property("digest")
    figures = [] if its_digest == digest else read_figures(evaluation, its_digest, champion=True)
    return Champion(its_digest, pushed.get_int_custom_property("version"), figures)


def _bless(blessing: types.Artifact, model: types.Artifact, blessed: bool) -> None:
    """Writes what TFX's own resolvers read."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
