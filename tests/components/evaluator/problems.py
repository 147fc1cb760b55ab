"""Three small problems on real rows, with models made by hand, as a Trainer of ours would save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis.proto import config_pb2
from tfx.types import standard_artifacts

from components.evaluation.eval_config import KERAS_MODULE
from components.example_gen.columns import columns_of
from components.example_gen.encode import encode
from components.example_gen.read import read_batches
from schemas.metrics import QUALITY
from tests.workbench import REPOSITORY

BINARY = [
    name
    for name, metric in QUALITY.items()
    if "categorical" not in name
    and name not in ("cosine_similarity", "log_cosh_error", "poisson", "prevalence_threshold")
]
WHOLE = ["prevalence_threshold", "auc"]  # TFMA divides by zero in a slice where recall and specificity add up to 1
SEVERAL_CLASSES = [
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "auc",  # each class against the others: row by row
    "binary_accuracy",
    "calibration",
    "example_count",
    "mean_squared_error",
]
ONE_HOT = [
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_hinge",
    "example_count",
    "top_k_categorical_accuracy",
]
REGRESSION = [
    "calibration",
    "cosine_similarity",
    "example_count",
    "log_cosh_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_label",
    "mean_prediction",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "root_mean_squared_error",
    "squared_pearson_correlation",
    "weighted_example_count",
]

Transform = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Problem:
    """Examples, two models and a schema, as artifacts; the name of the label."""

    examples: Any
    models: tuple[Any, Any]
    schema: Any
    label: str

    def config(
        self, metrics: Sequence[str], slices: Sequence[Mapping[str, Any]] = (), champion: bool = True
    ) -> config_pb2.EvalConfig:
        """An evaluation of both models, on the whole and by some slices."""
        specs = [
            config_pb2.ModelSpec(
                name=name,
                model_type="tf_generic",
                signature_name="serving_examples",
                preprocessing_function_names=["transform_features"],
                label_key=self.label,
                is_baseline=name == "champion",
            )
            for name in ("candidate", *(["champion"] if champion else []))
        ]
        return config_pb2.EvalConfig(
            model_specs=specs,
            slicing_specs=[config_pb2.SlicingSpec(), *(config_pb2.SlicingSpec(**one) for one in slices)],
            metrics_specs=[config_pb2.MetricsSpec(metrics=[metric(name) for name in metrics])],
        )

    def inputs(self, champion: bool = True) -> dict[str, list[Any]]:
        found = {"examples": [self.examples], "model": [self.models[0]], "schema": [self.schema]}
        return found | ({"baseline_model": [self.models[1]]} if champion else {})


def metric(name: str) -> config_pb2.MetricConfig:
    known = QUALITY[name]
    module = KERAS_MODULE if known.library == "keras" else None
    return config_pb2.MetricConfig(class_name=known.class_name, module=module, config=json.dumps({"name": name}))


def taxi(folder: Path, rows: int = 1200) -> Problem:
    """Tips above 20 % of the fare; three rows in ten have no company."""

    def model(weight: float) -> tuple[Transform, Transform]:
        def transform(raw: dict[str, Any]) -> dict[str, Any]:
            return {
                "big_tipper": tf.cast(raw["tips"] > 0.2 * raw["fare"], tf.int64),
                "hour": raw["trip_start_hour"][:, 0],
                "payment": tf.strings.upper(raw["payment_type"]),
            }

        def predict(raw: dict[str, Any]) -> dict[str, Any]:
            card = tf.cast(raw["payment_type"] == b"Credit Card", tf.float32)
            return {"outputs": tf.sigmoid(weight * card - 1.0 + 0.05 * raw["trip_miles"] - 0.02 * raw["fare"])}

        return transform, predict

    return _problem(folder, "taxi", rows, "big_tipper", [model(2.0), model(1.5)])


def tips(folder: Path, rows: int = 800) -> Problem:
    """The tip itself, in dollars; never below 0, as a regression's errors in logarithms need it."""

    def model(share: float) -> tuple[Transform, Transform]:
        def transform(raw: dict[str, Any]) -> dict[str, Any]:
            return {"tips": raw["tips"], "trip_start_day": raw["trip_start_day"] - 1}

        return transform, lambda raw: {"outputs": share * raw["fare"] + 0.1}

    return _problem(folder, "taxi", rows, "tips", [model(0.1), model(0.2)])


def penguins(folder: Path) -> Problem:
    """Which of three species: the label is `species`, its index, or `one_hot`."""

    def model(width: float) -> tuple[Transform, Transform]:
        def predict(raw: dict[str, Any]) -> dict[str, Any]:
            far = tf.concat([-tf.abs(raw["flipper_length_mm"] - middle) / width for middle in (190.0, 196.0, 217.0)], 1)
            return {"outputs": tf.nn.softmax(far)}

        def transform(raw: dict[str, Any]) -> dict[str, Any]:
            return {"species": raw["species"], "one_hot": tf.one_hot(raw["species"][:, 0], 3)}

        return transform, predict

    return _problem(folder, "penguin", 400, "species", [model(5.0), model(20.0)])


def _problem(folder: Path, data: str, rows: int, label: str, models: list[tuple[Transform, Transform]]) -> Problem:
    text = (REPOSITORY / f"schemas/{data}/schema.pbtxt").read_text()
    (file,) = (REPOSITORY / f"data/{data}").glob("*.csv")
    batch = next(iter(read_batches(file, "csv", columns_of(text)))).slice(0, rows)
    examples = write_examples(folder / "examples", batch)
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    Path(schema.uri).mkdir(parents=True)
    Path(schema.uri, "schema.pbtxt").write_text(text)
    spec = parsing_spec(text_format.Parse(text, schema_pb2.Schema()))
    saved = [save(folder / f"model-{index}", spec, *functions) for index, functions in enumerate(models)]
    return Problem(examples, (saved[0], saved[1]), schema, label)


def write_examples(folder: Path, batch: pa.RecordBatch) -> Any:
    file = folder / "Split-eval" / "data_tfrecord-00000-of-00001"
    file.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for example in encode(batch).to_pylist():
            writer.write(example)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = '["eval"]'
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return artifact


def parsing_spec(schema: Any) -> dict[str, Any]:
    from components.trainer.export import raw_spec_of

    return raw_spec_of(schema)


def save(folder: Path, spec: Mapping[str, Any], transform: Transform, predict: Transform) -> Any:
    """A SavedModel with the two signatures that evaluation uses."""
    signature = [tf.TensorSpec([None], tf.string, name="examples")]
    module = tf.Module()

    @tf.function(input_signature=signature)
    def serving_examples(examples):
        return predict(tf.io.parse_example(examples, spec))

    @tf.function(input_signature=signature)
    def transform_features(examples):
        return transform(tf.io.parse_example(examples, spec))

    signatures = {"serving_examples": serving_examples, "transform_features": transform_features}
    tf.saved_model.save(module, str(folder / "Format-Serving"), signatures=signatures)
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    artifact.set_string_custom_property("tfx_version", "1.21.0")
    return artifact
