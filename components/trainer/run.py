"""`run_fn`, which TFX's Trainer node calls: unpacks its arguments, trains, exports, records."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from tfx.utils import io_utils

from components.code import code_fingerprint
from components.trainer.export import raw_spec_of, save
from components.trainer.fit import fit, keras_for, seeded
from components.trainer.inputs import dataset, layout_of, survey
from schemas.config import ModelConfig, TrainingConfig
from schemas.decision import TRAINING_FILE
from serving import payload

__all__ = ["custom_config", "run_fn"]

_SURVEY_BATCH = 8192


def custom_config(model: ModelConfig, training: TrainingConfig, fingerprint: str) -> dict[str, str]:
    """What the Trainer node hands to `run_fn`, and what its cache key therefore sees.

    Args:
        model: the configuration's section.
        training: the configuration's section.
        fingerprint: of the code of the user's `build_model`.
    """
    return {
        "model": model.model_dump_json(by_alias=True),
        "training": training.model_dump_json(by_alias=True),
        "build_model_fingerprint": fingerprint,
        "code_fingerprint": code_fingerprint("components.trainer", "serving", "schemas"),
    }


def run_fn(fn_args: Any) -> None:
    """Trains on the `train` split, watches `validate`, and writes the SavedModel and the training record.

    Args:
        fn_args: TFX's `FnArgs`; its `custom_config` is made by `custom_config` above.
    """
    model_config = ModelConfig.model_validate_json(fn_args.custom_config["model"])
    training = TrainingConfig.model_validate_json(fn_args.custom_config["training"])
    seeded(training)
    module = importlib.import_module(model_config.module)
    transformed = tft.TFTransformOutput(fn_args.transform_output)
    layout = layout_of(transformed, model_config.label)

    batch = training.global_batch_size
    found = survey(dataset(fn_args.train_files, layout, _SURVEY_BATCH))
    found.check(layout.label, "train")
    held_out = survey(dataset(fn_args.eval_files, layout, _SURVEY_BATCH))
    train = dataset(fn_args.train_files, layout, batch, shuffle_seed=training.seed, rows=found.rows)
    validate = dataset(fn_args.eval_files, layout, batch, rows=held_out.rows)
    fitted = fit(module.build_model, layout, model_config.hyperparameters, training, train, validate, found.rows)

    schema = io_utils.SchemaReader().read(fn_args.schema_path)
    keras = keras_for(training.backend)
    names = save(keras, fitted.model, transformed, layout, raw_spec_of(schema), fn_args.serving_model_dir)
    record = {
        **fitted.as_record(),
        "serving_features": names,
        "parameters": int(fitted.model.count_params()),
        "digest": payload.digest(fn_args.serving_model_dir),
    }
    run_dir = Path(fn_args.model_run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
