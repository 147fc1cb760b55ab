"""`run_fn`, which TFX's Trainer node calls: unpacks its arguments, trains, exports, records."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.utils import io_utils

from components.code import code_fingerprint
from components.trainer.blocks import memory_budget_bytes
from components.trainer.compress import Compressed, compress, compression_of
from components.trainer.export import raw_spec_of, save
from components.trainer.fit import Fitted, fit, keras_for, seeded
from components.trainer.inputs import Layout, block_rows, dataset, layout_of
from components.trainer.preprocessing import Preprocessing
from components.trainer.reference import write_reference
from components.trainer.rows import Reader, rows_stated
from schemas.config import ModelConfig, TFLiteConfig, TrainingConfig
from schemas.decision import TRAINING_FILE
from serving import payload

__all__ = ["custom_config", "run_fn"]

_VALIDATION_ROWS = 1024
"""A batch of validation at least, which keeps no gradients."""


def custom_config(
    model: ModelConfig, training: TrainingConfig, fingerprint: str, tflite: TFLiteConfig | None = None
) -> dict[str, str]:
    """What the Trainer node hands to `run_fn`, and what its cache key therefore sees.

    Args:
        model: the configuration's section.
        training: the configuration's section.
        fingerprint: of the code of the user's `build_model`.
        tflite: the configuration's section; what it says of training counts, and nothing else.
    """
    compression = compression_of(tflite)
    return {
        "model": model.model_dump_json(by_alias=True),
        "training": training.model_dump_json(by_alias=True),
        "build_model_fingerprint": fingerprint,
        **({"compression": compression.model_dump_json()} if compression else {}),
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
    preprocessing = Preprocessing(transformed.transform_savedmodel_dir)
    raw_spec = raw_spec_of(io_utils.SchemaReader().read(fn_args.schema_path))

    run_dir = Path(fn_args.model_run_dir)
    # Below the node's own output, which goes when an attempt that was killed is made again.
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=_made(run_dir)) as folder:
        reader = Reader(preprocessing, layout, raw_spec)
        fitted, small = _fit(fn_args, model_config, training, module, layout, reader, folder, run_dir)
    model = small.model if small else fitted.model
    names = save(keras_for(training.backend), model, preprocessing, layout, raw_spec, fn_args.serving_model_dir)
    record = {
        **fitted.as_record(),
        **({"compression": small.record} if small else {}),
        "serving_features": names,
        "parameters": int(model.count_params()),
        "digest": payload.digest(fn_args.serving_model_dir),
    }
    (_made(run_dir) / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _fit(
    fn_args: Any,
    model: ModelConfig,
    training: TrainingConfig,
    module: ModuleType,
    layout: Layout,
    reader: Reader,
    folder: str,
    run_dir: Path,
) -> tuple[Fitted, Compressed | None]:
    """Reads both splits once, trains, makes the model smaller where that is asked for, and keeps its reference."""
    batch = training.global_batch_size
    held_out_batch = max(batch, _VALIDATION_ROWS)
    stated, budget = rows_stated(fn_args.transform_output), memory_budget_bytes() // 2  # for each of the two
    train = reader.read(
        fn_args.train_files, block_rows(layout, batch), budget, Path(folder, "train.arrow"), stated.get("train")
    )
    train.check(layout.label, "train")
    held_out = reader.read(
        fn_args.eval_files,
        block_rows(layout, held_out_batch),
        budget,
        Path(folder, "validate.arrow"),
        stated.get("validate"),
    )
    rows = dataset(train.blocks, layout, batch, shuffle_seed=training.seed)
    validate = dataset(held_out.blocks, layout, held_out_batch)
    fitted = fit(module.build_model, layout, model.hyperparameters, training, rows, validate, train.blocks.rows)
    small = _compressed(fn_args.custom_config, keras_for(training.backend), fitted, rows, validate)
    if held_out.blocks.rows:
        shipped = small.model if small else fitted.model
        write_reference(shipped, dataset(held_out.blocks, layout, held_out_batch), _made(run_dir))
    return fitted, small


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compressed(
    custom: dict[str, str], keras: ModuleType, fitted: Fitted, train: tf.data.Dataset, validate: tf.data.Dataset
) -> Compressed | None:
    """The model trained on in the way that the configuration asks for; None where it asks for none."""
    if "compression" not in custom:
        return None
    epochs = len(next(iter(fitted.history.values()), []))
    tflite = TFLiteConfig.model_validate_json(custom["compression"])
    return compress(keras, fitted.model, tflite, train, validate, epochs)
