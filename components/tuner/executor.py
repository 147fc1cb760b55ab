"""The executor: finds the files, has the search made, writes down what came of it."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.trainer.resume import key_of
from components.trainer.strategy import find_machine
from components.tuner.search import Files, Sections, places_for, search
from components.tuner.space import keras_tuner_config
from schemas.config import GatesConfig, ModelConfig, TFLiteConfig, TrainingConfig
from schemas.errors import NoTrialWonError
from schemas.tuning import TRIALS_FILE, Search

__all__ = ["Executor"]

_BEST_FILE = "best_hyperparameters.txt"
_RESULTS_FILE = "tuner_results.json"
"""Names that TFX's own Tuner gives them."""


class Executor(base_executor.BaseExecutor):
    """Executor of `Tuner`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Searches. See `Tuner` for what it reads and writes.

        Raises:
            NoTrialWonError: no trial has won.
            TuningError: the search cannot go on. What it had done stays beside the outputs, as that of one that was cut off.
        """
        sections = Sections(
            ModelConfig.model_validate_json(exec_properties["model"]),
            TrainingConfig.model_validate_json(exec_properties["training"]),
            GatesConfig.model_validate_json(exec_properties["gates"]),
            TFLiteConfig.model_validate_json(exec_properties["tflite"]) if exec_properties["tflite"] else None,
        )
        uris = {key: artifact_utils.get_single_uri(artifacts) for key, artifacts in input_dict.items()}
        files = Files(
            Path(uris["examples"]),
            Path(uris["transform_graph"]),
            Path(io_utils.get_only_uri_in_dir(uris["schema"])),
            sys.path,
        )
        best, results = (
            artifact_utils.get_single_instance(output_dict[key]) for key in ("best_hyperparameters", "tuner_results")
        )
        folder = Path(results.uri).parent / f".resume-{key_of(exec_properties, uris)}"
        places = places_for(sections.tune, find_machine(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        os.makedirs(results.uri, exist_ok=True)
        try:
            # Below the node's own output, which goes when an attempt that was killed is made again.
            with tempfile.TemporaryDirectory(prefix=".scratch-", dir=results.uri) as scratch:
                found = search(sections, files, places, folder, Path(scratch))
        except NoTrialWonError:
            (folder / "study.log").unlink(missing_ok=True)  # another attempt would come to the same end at once
            raise
        _write(found, sections, best, results)
        shutil.rmtree(folder)


def _write(found: Search, sections: Sections, best: types.Artifact, results: types.Artifact) -> None:
    winner = found.winner
    assert winner is not None
    config = keras_tuner_config(sections.tune.space, winner.values)
    io_utils.write_string_file(os.path.join(best.uri, _BEST_FILE), json.dumps(config))
    rows = [
        {"trial_id": str(trial.number), "score": trial.objective, **trial.values}
        for trial in found.leaderboard
        if trial.state == "complete"
    ]
    io_utils.write_string_file(os.path.join(results.uri, _RESULTS_FILE), json.dumps(rows))
    io_utils.write_string_file(os.path.join(results.uri, TRIALS_FILE), found.model_dump_json(indent=2))
    results.set_int_custom_property("trials", len(found.trials))
    results.set_int_custom_property("best", winner.number)
    results.set_string_custom_property("summary", found.summary)
    best.set_string_custom_property("values", json.dumps(winner.values, sort_keys=True))
