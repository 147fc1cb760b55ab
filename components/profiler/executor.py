"""The executor: finds payloads and rows, has them measured, writes the figures."""

import json
import os
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.profiler.measure import Measured, Needs, Trained, profile
from components.profiler.rows import Rows, read_rows
from components.trainer.reference import REFERENCE_SPLIT, read_reference
from components.trainer.requests import request_name
from schemas.decision import FIGURES_FILE, TRAINING_FILE
from serving import payload

__all__ = ["Executor"]

_REQUEST_SPLIT = "eval"
_REQUEST_ROWS = 2048

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of `Profiler`. It completes whatever the payloads do; what could not be measured is told as such."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Measures candidate and champion. See `Profiler` for what it reads and writes."""
        examples = Path(artifact_utils.get_single_uri(input_dict["examples"]))
        run = Path(artifact_utils.get_single_uri(input_dict["model_run"]))
        requests = read_rows(examples, _REQUEST_SPLIT, _REQUEST_ROWS)
        needs = json.loads(exec_properties["needs"])
        champion = input_dict.get("champion") or []
        figures = profile(
            _measured(artifact_utils.get_single_instance(input_dict["model"])),
            _measured(champion[0]) if champion else None,
            requests,
            _trained(examples, run),
            _columns(requests, run),
            Needs(tuple(needs["batch_sizes"]), tuple(tuple(keys) for keys in needs["slices"])),
            exec_properties["machine"],
        )
        output = artifact_utils.get_single_instance(output_dict["profile"])
        output.digest = figures.candidate
        io_utils.write_string_file(os.path.join(output.uri, FIGURES_FILE), figures.model_dump_json(indent=2))


def _measured(model: types.Artifact) -> Measured:
    path = path_utils.serving_model_path(model.uri)
    return Measured(path, payload.digest(path))


def _trained(examples: Path, run: Path) -> Trained:
    """The model's answers when it was trained, with the rows that they answer."""
    nothing = Rows({}, {}, ())
    reference = read_reference(run)
    if reference is None:
        return Trained(nothing, None, "the Trainer kept no answers of the model that it trained")
    rows = read_rows(examples, REFERENCE_SPLIT, reference.rows)
    if rows.count != reference.rows:
        return Trained(nothing, None, f"the Trainer saw {reference.rows} rows, and there are {rows.count}")
    return Trained(rows, reference)


def _columns(rows: Rows, run: Path) -> dict[str, str]:
    """Name in a request to column: as the Trainer named them, and by the rule for what an older model asks for."""
    asked = json.loads((run / TRAINING_FILE).read_text(encoding="utf-8"))["serving_features"]
    return {request_name(column): column for column in rows.values} | {name: column for column, name in asked.items()}
