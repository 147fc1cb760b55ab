"""Trains in a process of its own, as its arguments say; the training record and the model lie in the output folder.

A strategy divides the CPU before TensorFlow runs anything, so that a test cannot train under it in its own process.

    python -m tests.components.trainer.trials DATA_FOLDER OUTPUT_FOLDER TRAINING_JSON [MODULE]

Where `TRIALS_HELD` names a file, the training stands still, whenever it has kept its state, for as long as the file is there:
whoever is to end it in the middle need not be faster than it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MODULE = "tests.resources.counting_model"


def arguments(tiny: Path, folder: Path, training: dict[str, Any], module: str = MODULE) -> Any:
    """What TFX's Trainer would hand to `run_fn`. Among the keys of training may stand `tflite`, the section `export.tflite`,
    and `base_model`, the folder of the champion.
    """
    from tfx.components.trainer.fn_args_utils import FnArgs

    from components.trainer.run import custom_config
    from schemas.config import ModelConfig, TFLiteConfig, TrainingConfig
    from tests.components.trainer.tiny import LABEL

    tflite, base_model = training.pop("tflite", None), training.pop("base_model", None)
    model = ModelConfig(module=module, label=LABEL, hyperparameters={"learning_rate": 0.05})
    return FnArgs(
        train_files=[f"{tiny}/Split-train/*"],
        eval_files=[f"{tiny}/Split-validate/*"],
        transform_output=str(tiny),
        schema_path=str(tiny / "schema.pbtxt"),
        serving_model_dir=str(folder / "Format-Serving"),
        model_run_dir=str(folder / "run"),
        base_model=base_model,
        custom_config=custom_config(
            model,
            TrainingConfig.model_validate(training),
            "f00",
            TFLiteConfig.model_validate(tflite) if tflite else None,
        ),
    )


def main(tiny: Path, folder: Path, training: dict[str, Any], module: str = MODULE) -> None:
    """Trains, as the Trainer node does."""
    from components.trainer.run import run_fn

    run_fn(arguments(tiny, folder, training, module))


def held_by(file: Path) -> None:
    """Trainings of this process stand still at each state that is kept while the file is there."""
    from components.trainer.resume import Resume

    save = Resume.save

    def save_and_wait(self: Resume, *arguments: Any) -> None:
        save(self, *arguments)
        while file.exists():
            time.sleep(0.01)

    Resume.save = save_and_wait  # type: ignore[method-assign]


if __name__ == "__main__":
    if "TRIALS_HELD" in os.environ:
        held_by(Path(os.environ["TRIALS_HELD"]))
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), *sys.argv[4:])
