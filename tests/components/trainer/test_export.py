"""The SavedModel that ships: its signatures, asked in a process that knows TensorFlow alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.trainer import export
from components.trainer.export import raw_spec_of, save
from components.trainer.fit import keras_for
from components.trainer.inputs import Layout, layout_of
from components.trainer.preprocessing import Preprocessing
from components.trainer.requests import MISSING_INT, request_names
from pipeline.models.taxi import big_tipper
from tests.components.first_run import FirstRun
from tests.components.trainer.tiny import LABEL, RAW_SPEC, SCHEMA, Tiny, example
from tests.resources import tiny_model

both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])

ASK = """
import json, math, sys
import tensorflow as tf

folder, file, label = sys.argv[1:]
model = tf.saved_model.load(folder)
signatures = {
    name: {
        side: {key: [spec.dtype.name, spec.shape.as_list()] for key, spec in specs.items()}
        for side, specs in (
            ("inputs", signature.structured_input_signature[1]), ("outputs", signature.structured_outputs)
        )
    }
    for name, signature in model.signatures.items()
}
records = [record.numpy() for record in tf.data.TFRecordDataset(file)]
missing = {tf.string: b"", tf.float32: math.nan, tf.int64: tf.int64.min}

def without(record, names):
    example = tf.train.Example.FromString(record)
    for name in names:
        example.features.feature.pop(name, None)
    return example.SerializeToString()

asked = model.signatures["serving_default"].structured_input_signature[1]

def raw(records):
    columns = {name: [] for name in asked}
    for record in records:
        features = tf.train.Example.FromString(record).features.feature
        for name, spec in asked.items():
            feature = features.get(name)
            kind = feature and feature.WhichOneof("kind")
            values = getattr(feature, kind).value if kind else []
            columns[name].append(values[0] if values else missing[spec.dtype])
    return {name: tf.constant(values, asked[name].dtype) for name, values in columns.items()}

def difference(records):
    by_rows = model.signatures["serving_default"](**raw(records))["outputs"]
    by_examples = model.signatures["serving_examples"](examples=tf.constant(records))["outputs"]
    return float(tf.reduce_max(tf.abs(by_rows - by_examples)))

optional = ["company", "trip_seconds", "pickup_community_area", "dropoff_community_area"]
transformed = model.signatures["transform_features"](examples=tf.constant(records))
print(json.dumps({
    "signatures": signatures,
    "rows": len(records),
    "without_company": sum(word == b"" for word in raw(records)["company"].numpy()),
    "difference": difference(records),
    "difference_where_missing": difference([without(record, optional) for record in records]),
    "outputs": model.signatures["serving_examples"](examples=tf.constant(records))["outputs"].numpy().tolist(),
    "outputs_without_tips": model.signatures["serving_examples"](
        examples=tf.constant([without(record, ["tips"]) for record in records])
    )["outputs"].numpy().tolist(),
    "labels": transformed[label].numpy().reshape(-1).tolist(),
    "modules": sorted({module.partition(".")[0] for module in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def answers(first_run: FirstRun) -> dict[str, Any]:
    """What a fresh process finds in the small pipeline's pushed version, asked with every row of the eval split."""
    (file,) = (first_run.uris["ExampleGen", "examples"] / "Split-eval").iterdir()
    command = [sys.executable, "-c", ASK, str(first_run.saved_model), str(file), "big_tipper"]
    # tf.Transform sets this in the process that imports it, and TensorFlow then imports tf_keras
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- the small pipeline's pushed version, as a server loads it --------------------------------------------------------


def test_it_loads_where_there_is_tensorflow_alone(answers: dict[str, Any]) -> None:
    """No TFX, no tf.Transform, no Keras 2."""
    assert "tensorflow" in answers["modules"]
    assert not {"tfx", "tfx_bsl", "tensorflow_transform", "tf_keras", "components"} & set(answers["modules"])


def test_the_signatures_of_the_taxi_model(answers: dict[str, Any]) -> None:
    """Four, each with the names, types and shapes that a client relies on."""
    signatures = answers["signatures"]
    assert set(signatures) == {
        "serving_default",
        "serving_examples",
        "transform_features",
        "model_features",
        "transformed",
    }
    outputs = {"outputs": ["float32", [None, 1]]}
    assert signatures["serving_default"] == {
        "inputs": {
            "company": ["string", [None]],
            "dropoff_community_area": ["int64", [None]],
            "fare": ["float32", [None]],
            "payment_type": ["string", [None]],
            "pickup_community_area": ["int64", [None]],
            "trip_miles": ["float32", [None]],
            "trip_seconds": ["int64", [None]],
            "trip_start_day": ["int64", [None]],
            "trip_start_hour": ["int64", [None]],
            "trip_start_month": ["int64", [None]],
        },
        "outputs": outputs,
    }
    assert signatures["serving_examples"] == {"inputs": {"examples": ["string", [None]]}, "outputs": outputs}
    transform = signatures["transform_features"]
    assert transform["inputs"] == {"examples": ["string", [None]]}
    assert transform["outputs"]["log_fare"] == ["float32", [None, 1]]
    assert transform["outputs"]["taxi_company"] == ["int64", [None, 1]]
    assert transform["outputs"]["big_tipper"] == ["int64", [None, 1]]
    assert len(transform["outputs"]) == 12


def test_raw_rows_and_examples_give_the_same_answers(answers: dict[str, Any]) -> None:
    """On every row of the eval split, many of them without a company."""
    assert answers["rows"] > 300
    assert answers["without_company"] > 50
    assert answers["difference"] <= 1e-6


def test_a_raw_row_can_say_that_a_value_is_missing(answers: dict[str, Any]) -> None:
    """Where all that may be missing is, the answers are those of examples that lack it."""
    assert answers["difference_where_missing"] <= 1e-6


def test_tips_are_not_asked_for(answers: dict[str, Any]) -> None:
    """They make the label, which nobody knows when a model is asked; leaving them out changes nothing."""
    assert "tips" not in answers["signatures"]["serving_default"]["inputs"]
    assert answers["outputs_without_tips"] == answers["outputs"]


def test_the_label_comes_out_of_the_preprocessing_in_the_model(answers: dict[str, Any], first_run: FirstRun) -> None:
    """The Evaluator takes it from there; it is what tips and fare make it."""
    (file,) = (first_run.uris["ExampleGen", "examples"] / "Split-eval").iterdir()
    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in ("tips", "fare")}
    rows = [tf.io.parse_single_example(record, spec) for record in tf.data.TFRecordDataset(str(file))]
    expected = [int(big_tipper(row["tips"], row["fare"])) for row in rows]
    assert answers["labels"] == expected
    assert set(expected) == {0, 1}


def test_weights_ship_and_nothing_that_only_training_needs(first_run: FirstRun) -> None:
    """Adam keeps two numbers beside each weight, metrics keep counts: neither is among the variables."""
    variables = tf.train.list_variables(str(first_run.saved_model / "variables" / "variables"))
    names = [name for name, _ in variables if "CHECKPOINTABLE" not in name]
    weights = sum(int(np.prod(shape)) for name, shape in variables if name in names)
    record = json.loads((first_run.uris["Trainer", "model_run"] / "training.json").read_text())
    assert weights == record["parameters"] > 1000
    assert not [name for name in names if "optimizer" in name.lower() or "metric" in name.lower()]


# --- features of every form -------------------------------------------------------------------------------------------


def tiny_saved_model(backend: str, tiny: Tiny, folder: Path, model: Any = None) -> tuple[Any, dict[str, str], Any]:
    """The loaded SavedModel, the names of its features, and the model that it was made of."""
    keras = keras_for(backend)
    layout = layout_of(tiny.transformed, LABEL)
    model = model or tiny_model.build_model(keras, layout.features, {})
    names = save(keras, model, preprocessing(tiny), layout, raw_spec_of(schema()), str(folder))
    return tf.saved_model.load(str(folder)), names, model


def preprocessing(tiny: Tiny) -> Preprocessing:
    return Preprocessing(tiny.transformed.transform_savedmodel_dir)


def schema() -> Any:
    return text_format.Parse(SCHEMA, schema_pb2.Schema())


def raw_rows(rows: range) -> dict[str, Any]:
    """The rows of `tests.components.trainer.tiny.example` as a request gives them."""
    nan = float("nan")
    return {
        "pair": tf.constant([[i, -0.5 * i] for i in rows], tf.float32),
        "one": tf.constant([0.25 * i for i in rows], tf.float32),
        "flat": tf.constant([3.0 - i for i in rows], tf.float32),
        "word": tf.constant(["w" * i if i % 2 else "" for i in rows]),
        "whole_number": tf.constant([i if i % 3 else MISSING_INT for i in rows], tf.int64),
        "f2nd_real": tf.constant([0.1 * i if i % 4 else nan for i in rows], tf.float32),
    }


@both
def test_every_form_of_a_feature_can_be_asked_for(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """Scalars and vectors, words and numbers, there or missing: rows and examples give the model's own answers."""
    loaded, names, model = tiny_saved_model(backend, tiny, tmp_path / "model")
    assert names == {
        "2nd real": "f2nd_real",
        "flat": "flat",
        "one": "one",
        "pair": "pair",
        "whole.number": "whole_number",
        "word": "word",
    }
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert {name: (spec.dtype.name, spec.shape.as_list()) for name, spec in inputs.items()} == {
        "f2nd_real": ("float32", [None]),
        "flat": ("float32", [None]),
        "one": ("float32", [None]),
        "pair": ("float32", [None, 2]),
        "whole_number": ("int64", [None]),
        "word": ("string", [None]),
    }
    rows = range(24)
    examples = tf.constant([example(i) for i in rows])
    by_rows = loaded.signatures["serving_default"](**raw_rows(rows))["outputs"].numpy()
    by_examples = loaded.signatures["serving_examples"](examples=examples)["outputs"].numpy()
    features = loaded.signatures["transform_features"](examples=examples)
    assert {name: tensor.shape.as_list() for name, tensor in features.items()} == {
        name: [24, 2 if name == "pair" else 1] for name in ("pair", "sum", "flat", "letters", "number", "real", LABEL)
    }
    own = model({name: tensor for name, tensor in features.items() if name != LABEL}, training=False).numpy()
    assert len(np.unique(own)) > 12
    np.testing.assert_allclose(by_examples, own, atol=1e-6)
    np.testing.assert_allclose(by_rows, own, atol=1e-6)


def test_the_names_are_those_in_the_file_that_a_server_reads(tiny: Tiny, tmp_path: Path) -> None:
    """TensorFlow renames silently what it does not like: what is recorded is what is served."""
    _, names, _ = tiny_saved_model("tf_keras", tiny, tmp_path)
    from tensorflow.core.protobuf import saved_model_pb2

    graphs = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes()).meta_graphs
    assert set(graphs[0].signature_def["serving_default"].inputs) == set(names.values())


@pytest.mark.parametrize("name", ["flat", "one", "pair"])
def test_a_required_value_that_is_missing_is_refused_by_name(name: str, tiny: Tiny, tmp_path: Path) -> None:
    """As an example without it is; a model would answer NaN with NaN."""
    loaded, _, _ = tiny_saved_model("tf_keras", tiny, tmp_path)
    rows = raw_rows(range(3))
    rows[name] = tf.where(tf.range(tf.size(rows[name])) == 1, float("nan"), tf.reshape(rows[name], [-1]))
    rows[name] = tf.reshape(rows[name], [3, 2] if name == "pair" else [3])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} is required, and a row lacks it"):
        loaded.signatures["serving_default"](**rows)


def test_rows_without_the_label_are_answered(tiny: Tiny, tmp_path: Path) -> None:
    """Examples as a client has them."""
    loaded, _, _ = tiny_saved_model("tf_keras", tiny, tmp_path)

    def unlabeled(index: int) -> bytes:
        whole = tf.train.Example.FromString(example(index))
        whole.features.feature.pop("target")
        return whole.SerializeToString()

    serve = loaded.signatures["serving_examples"]
    answers = [
        serve(examples=tf.constant([make(i) for i in range(6)]))["outputs"].numpy() for make in (example, unlabeled)
    ]
    np.testing.assert_array_equal(*answers)


@both
def test_it_loads_into_a_session(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """As TensorFlow Serving and the evaluation load it: each variable that a signature reads has its value there."""
    tiny_saved_model(backend, tiny, tmp_path)
    examples = [example(index) for index in range(5)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path)).signature_def["serving_examples"]
        fed = {signature.inputs["examples"].name: examples}
        answers = session.run(signature.outputs["outputs"].name, fed)
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_examples"]
    np.testing.assert_allclose(answers, loaded(examples=tf.constant(examples))["outputs"], atol=1e-6)
    assert answers.shape == (5, 1)


@both
def test_a_subclassed_model_ships_as_it_is(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """It has no graph of layers from which optimizer and metrics could be left out, and answers all the same."""
    keras = keras_for(backend)

    class Subclassed(keras.Model):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.dense(tf.concat([inputs[name] for name in sorted(inputs)], axis=1))

    model = Subclassed()
    model.compile("sgd", "mse")
    layout = layout_of(tiny.transformed, LABEL)
    model({name: tf.zeros([1, *feature.shape]) for name, feature in layout.features.items()})
    loaded, _, _ = tiny_saved_model(backend, tiny, tmp_path, model)
    by_rows = loaded.signatures["serving_default"](**raw_rows(range(6)))["outputs"].numpy()
    by_examples = loaded.signatures["serving_examples"](examples=tf.constant([example(i) for i in range(6)]))
    np.testing.assert_allclose(by_rows, by_examples["outputs"].numpy(), atol=1e-6)


@pytest.mark.parametrize("feature", [name for name in RAW_SPEC if name not in ("target", "answer")])
def test_a_requests_tensor_is_what_parsing_would_give(feature: str) -> None:
    """Dense or sparse, with the same shape: the preprocessing cannot tell them apart."""
    (name,) = request_names([feature]).values()
    form = RAW_SPEC[feature]
    rows = range(6)
    given_row_by_row = export._as_parsed(raw_rows(rows)[name], form, name)
    parsed = tf.io.parse_example([example(index) for index in rows], {feature: form})[feature]
    assert type(given_row_by_row) is type(parsed)
    if isinstance(parsed, tf.SparseTensor):
        np.testing.assert_array_equal(given_row_by_row.indices, parsed.indices)
        assert given_row_by_row.dense_shape.numpy().tolist() == parsed.dense_shape.numpy().tolist()
        given_row_by_row, parsed = given_row_by_row.values, parsed.values
    assert given_row_by_row.dtype == parsed.dtype
    np.testing.assert_array_equal(given_row_by_row, parsed)


def test_the_servable_answers_as_its_signatures_do(tiny: Tiny) -> None:
    """Preprocessing and model, one after the other; extra transformed features are not the model's."""
    layout = layout_of(tiny.transformed, LABEL)
    keras = keras_for("tf_keras")
    model = tiny_model.build_model(keras, layout.features, {})
    servable = export._Servable(keras, model, preprocessing(tiny), layout)
    raw = tf.io.parse_example([example(index) for index in range(5)], RAW_SPEC)
    transformed = tiny.transformed.transform_features_layer()(raw)
    columns = layout.as_columns(transformed)
    expected = model({name: columns[name] for name in layout.features})
    np.testing.assert_array_equal(servable.predict(servable.features(raw))["outputs"], expected)


# --- names and needs --------------------------------------------------------------------------------------------------


def test_the_raw_features_of_a_schema() -> None:
    """Fixed where the schema gives a shape, else of any length."""
    assert raw_spec_of(schema()) == RAW_SPEC


def test_features_of_the_label_alone_are_none_of_the_model(tiny: Tiny, tmp_path: Path) -> None:
    """A model on one feature asks for what that one is made of."""
    layout = layout_of(tiny.transformed, LABEL)
    narrow = Layout(layout.spec, {"pair": layout.features["pair"]}, LABEL)
    keras = keras_for("tf_keras")
    model = tiny_model.build_model(keras, narrow.features, {})
    assert save(keras, model, preprocessing(tiny), narrow, RAW_SPEC, str(tmp_path)) == {"pair": "pair"}
