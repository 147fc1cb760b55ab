"""Writes the files of a new pipeline: configuration, data schema, model module."""

from __future__ import annotations

import glob
import json
import os
import pprint
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.example_gen.columns import ColumnType
from pipeline.scaffold.profile import Column, Profile, Task, profile_of
from schemas.errors import ConfigError, Fault
from schemas.load import as_yaml, parse_config

__all__ = ["Written", "init_pipeline"]

_TEMPLATE = Path(__file__).with_name("model.py.tmpl")
_WIDTH = 110
_LONGEST_NAME = 63


@dataclass(frozen=True)
class Written:
    """What `init` wrote.

    Attributes:
        task: `binary`, `multiclass` or `regression`.
        files: in the order in which to read them.
        ignored: column name to the reason why the model does not use it.
    """

    task: Task
    files: tuple[Path, ...]
    ignored: dict[str, str]


def init_pipeline(directory: Path, data: Path, label: str, name: str | None = None) -> Written:
    """Writes a pipeline that runs as it is.

    Args:
        directory: to make; it may exist where it is empty.
        data: a CSV or Parquet file.
        label: column to predict.
        name: of the pipeline; made from the directory's name where it is None.

    Raises:
        ConfigError: the directory is not empty or cannot be made, or the name is none.
        DataError: the data cannot be read, or the label cannot be learned.
    """
    name = name or _name_from(directory)
    profile = profile_of(data, label)
    module = f"{name.replace('-', '_')}_model"
    texts = {
        "satisfice.yaml": _config(profile, name, module, directory),
        "schema.pbtxt": text_format.MessageToString(_schema(profile)),
        f"{module}.py": _module(profile, name),
    }
    parse_config(yaml.safe_load(texts["satisfice.yaml"]), str(directory / "satisfice.yaml"))
    _make(directory)
    for file, text in texts.items():
        (directory / file).write_text(text, encoding="utf-8")
    ignored = {column.name: column.why for column in profile.columns if column.role == "ignored"}
    return Written(profile.task, tuple(directory / file for file in texts), ignored)


def _name_from(directory: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", directory.resolve().name.lower()).strip("_")
    name = name if name[:1].isalpha() else f"pipeline_{name}".rstrip("_")
    return name[:_LONGEST_NAME]


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        full = any(directory.iterdir())
    except OSError as error:
        raise ConfigError(
            "command line", [Fault("DIR", f"cannot be made: {error}", "a new folder", str(directory))]
        ) from error
    if full:
        raise ConfigError("command line", [Fault("DIR", "is not empty", "a new or an empty folder", str(directory))])


# --- the configuration ------------------------------------------------------------------------------------------------

_METRIC = {"binary": "auc", "multiclass": "sparse_categorical_accuracy", "regression": "mean_squared_error"}


def _config(profile: Profile, name: str, module: str, directory: Path) -> str:
    metric = _METRIC[profile.task]
    if profile.task == "regression":
        variance = profile.label_column.deviation**2
        floor, why = {"metric": metric, "max": _round(variance)}, "better than always answering the mean"
    else:
        accuracy = "binary_accuracy" if profile.task == "binary" else metric
        floor = {"metric": accuracy, "min": _round(profile.majority)}
        why = "better than always answering the most frequent class"
    tolerance = 1e-4 if profile.task != "regression" else _round(1e-4 * max(1.0, abs(profile.label_column.deviation)))
    batch = max(16, min(256, profile.rows // 40))
    slack = 0.01 if profile.task != "regression" else _round(0.02 * profile.label_column.deviation**2)
    return f"""\
# Written by `satisfice init`. Paths are relative to this file.
name: {name}

data:
  source: {as_yaml({"format": profile.format, "path": glob.escape(os.path.relpath(profile.file, directory.resolve()))}, one_line=True)}
  splits: {{train: 7, validate: 1, eval: 2}}      # by a hash of each row's values
  schema: schema.pbtxt
  validate: {{anomalies: block, drift: {{"*": {{jensen_shannon: 0.1}}}}, on_drift: warn}}      # from the data of the model now served

model:
  module: {module}
  label: {json.dumps(profile.label, ensure_ascii=False)}
  hyperparameters: {{hidden_units: [32, 16], embedding_size: 8, dropout: 0.1, learning_rate: 0.005}}

training:
  global_batch_size: {batch}
  epochs: 100
  early_stopping: {{metric: val_loss, patience: 8}}

gates:                                           # a start: raise the limits to what your service needs
  optimize: {as_yaml({"metric": metric, "at_least_champion_minus": slack}, one_line=True)}
  satisfy:
    - {as_yaml(floor, one_line=True)}      # {why}
    - {{metric: size_mb, max: 50}}                 # of the SavedModel; 1 MB is 10^6 bytes
    - {{metric: max_abs_difference, against: trained, max: {tolerance}}}      # served on raw rows, as it was trained
    - {{metric: feature_skew, max: 0}}             # share of rows whose features differ between training and serving

push:
  serving: {{base_path: serving_models/{name}}}

metadata:
  sqlite: {{path: metadata.db}}
"""


def _round(value: float) -> float:
    return float(f"{value:.3g}")


# --- the data schema --------------------------------------------------------------------------------------------------


def _schema(profile: Profile) -> Any:
    """A feature for every column. One without a missing value must stay so; the classes of the label are closed."""
    schema = schema_pb2.Schema()
    for column in profile.columns:
        feature = schema.feature.add(name=column.name, type=schema_pb2.FeatureType.Value(column.type.value))
        if column.missing == 0:
            feature.presence.min_fraction = 1.0
            feature.presence.min_count = 1
            feature.shape.dim.add(size=1)
        else:
            feature.value_count.max = 1
        if column.values:
            _close_domain(feature, column)
    return schema


def _close_domain(feature: Any, column: Column) -> None:
    if column.type is ColumnType.BYTES:
        feature.string_domain.value.extend(value.decode("utf-8") for value in column.values)
    elif column.type is ColumnType.INT:
        feature.int_domain.min, feature.int_domain.max = min(column.values), max(column.values)
    else:
        feature.float_domain.min, feature.float_domain.max = min(column.values), max(column.values)


# --- the model module -------------------------------------------------------------------------------------------------

_HEADS = {
    "binary": (
        "1",
        '"sigmoid"',
        '"binary_crossentropy"',
        'keras.metrics.AUC(name="auc"), keras.metrics.BinaryAccuracy(name="binary_accuracy")',
    ),
    "multiclass": (
        "len(CLASSES)",
        '"softmax"',
        '"sparse_categorical_crossentropy"',
        'keras.metrics.SparseCategoricalAccuracy(name="sparse_categorical_accuracy")',
    ),
    "regression": ("1", '"linear"', '"mse"', 'keras.metrics.MeanSquaredError(name="mean_squared_error")'),
}

_CLASS_BODY = """\
    matches = tf.equal(value, tf.constant(CLASSES, value.dtype))
    return tf.expand_dims(tf.argmax(tf.cast(matches, tf.int32), axis=1), -1)"""


def _module(profile: Profile, name: str) -> str:
    outputs, activation, loss, metrics = _HEADS[profile.task]
    label = profile.label_column
    classes = [value.decode("utf-8") if isinstance(value, bytes) else value for value in label.values]
    ignored = [column for column in profile.columns if column.role == "ignored"]
    is_regression = profile.task == "regression"
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"The model of the {name} pipeline: predicts {profile.label!r} ({profile.task}).",
        file=profile.file.name,
        label=repr(profile.label),
        classes_line="" if is_regression else f"CLASSES = {_list(classes)}  # what the model's outputs stand for\n",
        numbers=_list(profile.named("number")),
        categories=_list(profile.named("category")),
        ignored_line="".join(f"# {column.name!r} is not used: {column.why}.\n" for column in ignored),
        outputs=outputs,
        activation=activation,
        loss=loss,
        metrics=metrics,
        label_doc="The value to predict." if is_regression else "The place of the class in CLASSES.",
        label_body="    return tf.cast(value, tf.float32)" if is_regression else _CLASS_BODY,
    )


def _list(values: list[Any]) -> str:
    return pprint.pformat(values, width=_WIDTH, compact=True)
