"""Mixed precision: what computes in 16 bits, what stays in 32, and that a model learns and ships as it would without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.fit import Course, fit, keras_for, seeded
from components.trainer.inputs import Layout
from components.trainer.precision import answer_in_float32, policy
from components.trainer.strategy import Machine, make_plan
from schemas.config import TrainingConfig
from schemas.errors import UserModuleError
from schemas.user_model import Feature
from tests.components.trainer.test_run import MODEL, train, training
from tests.components.trainer.tiny import Tiny, example

LAYOUT = Layout({}, {"x": Feature("x", "float32", (4,))}, "y")
both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])


def build_model(keras: Any, features: Any, hyperparameters: Any) -> Any:
    inputs = {"x": keras.Input((4,), name="x")}
    hidden = keras.layers.Dense(16, activation="relu")(inputs["x"])
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(0.02), loss="binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")]
    )
    return model


def rows() -> tf.data.Dataset:
    x = np.random.default_rng(0).normal(size=(512, 4)).astype("float32")
    y = (x[:, :1] + x[:, 1:2] * x[:, 2:3] > 0).astype("float32")
    return tf.data.Dataset.from_tensor_slices(({"x": x}, y)).batch(64)


@both
def test_the_answers_are_float32_and_the_loss_is_scaled(backend: str) -> None:
    """Layers compute in 16 bits, weights and answers do not; float16 alone scales the loss; the policy goes with the block."""
    keras = keras_for(backend)
    for precision, scaled in (("bfloat16", False), ("float16", True)):
        with policy(keras, precision):
            model = build_model(keras, {}, {})
        answer_in_float32("m", keras, model, LAYOUT)
        assert model.layers[1].compute_dtype == precision
        assert {weight.dtype if isinstance(weight.dtype, str) else weight.dtype.name for weight in model.weights} == {
            "float32"
        }
        answers = model({"x": tf.random.stateless_normal([64, 4], [1, 2])})
        assert answers.dtype == tf.float32
        assert len(np.unique(answers.numpy())) > 60
        assert ("LossScale" in type(model.optimizer).__name__) == scaled
    assert build_model(keras, {}, {}).layers[1].compute_dtype == "float32"


@both
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_what_float32_learns(backend: str, precision: str) -> None:
    """The area under the curve within 0.01; and the model that comes out computes in float32."""
    found = {}
    for one in ("float32", precision):
        config = TrainingConfig.model_validate({"backend": backend, "epochs": 12, "global_batch_size": 64})
        seeded(config)
        found[one] = fit(build_model, LAYOUT, {}, config, rows(), rows(), 512, Course(precision=one))
    assert found["float32"].history["val_auc"][-1] > 0.9
    assert found[precision].history["val_auc"][-1] == pytest.approx(found["float32"].history["val_auc"][-1], abs=0.01)
    assert found[precision].history["loss"] != found["float32"].history["loss"]
    model = found[precision].model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    (_, _, auc) = (0, *model.evaluate(rows(), verbose=0))
    assert auc == pytest.approx(found[precision].history["val_auc"][-1], abs=0.005)


@both
def test_a_model_that_answers_in_16_bits_is_refused(backend: str) -> None:
    """Where its last layer cannot be told: a model of its own class."""
    keras = keras_for(backend)

    class Own(keras.Model):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.last = keras.layers.Dense(1)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.last(inputs["x"])

    with policy(keras, "bfloat16"):
        model = Own()
    with pytest.raises(UserModuleError, match="a last layer with dtype='float32'"):
        answer_in_float32("module m", keras, model, LAYOUT)


@both
def test_what_ships_is_a_model_in_float32(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """Answers are float32, nothing in the graph is of 16 bits, and a .tflite file of it gives the same answers."""
    from components.tflite.convert import convert, file_of, opened
    from components.tflite.interpret import predict

    record = train(tiny, tmp_path, training(backend=backend, mixed_precision="bfloat16"), MODEL)
    assert record["plan"]["precision"] == "bfloat16"
    loaded = tf.saved_model.load(str(tmp_path / "Format-Serving"))
    serve = loaded.signatures["serving_examples"]
    examples = tf.constant([example(index) for index in range(10)])
    answers = serve(examples=examples)["outputs"]
    assert answers.dtype == tf.float32
    assert tf.bfloat16 not in {tensor.dtype for op in serve.graph.get_operations() for tensor in op.outputs}
    transformed = loaded.signatures["transform_features"](examples=examples)
    features = {name: value.numpy() for name, value in transformed.items() if name != "label"}
    with opened(tmp_path / "Format-Serving") as source:
        made = convert(source, "float32", features, tmp_path / "tflite")
    assert made.problems == ()
    on_device = predict(file_of(tmp_path / "tflite", "float32"), features)
    np.testing.assert_allclose(on_device, answers.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "machine", "precision", "reason"),
    [
        (True, Machine(2), "bfloat16", "this CPU has no instructions for bfloat16: training works, and is slower"),
        (True, Machine(2, bfloat16=True), "bfloat16", "this CPU has instructions for bfloat16"),
        ("float16", Machine(2, bfloat16=True), "float16", "this CPU has no instructions for float16"),
        (True, Machine(2, gpus=1), "float16", ""),
        (False, Machine(2), "float32", ""),
    ],
)
def test_the_plan_says_what_it_costs(asked: Any, machine: Machine, precision: str, reason: str) -> None:
    """On a processor; a GPU needs no word."""
    plan = make_plan(TrainingConfig.model_validate({"mixed_precision": asked}), machine)
    assert plan.precision == precision
    assert any(reason in one for one in plan.reasons)
    assert (precision in str(plan)) == (precision != "float32")
    assert not reason or any("bfloat16" in one or "float16" in one for one in plan.reasons)
