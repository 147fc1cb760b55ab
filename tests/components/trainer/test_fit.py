"""Training a user's model: what is refused, when it stops, which weights are kept, and that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.fit import Course, Fitted, fit, keras_for, seeded
from components.trainer.inputs import Layout
from components.trainer.scope import Scope, gathers
from schemas.config import TrainingConfig
from schemas.errors import SatisficeError, UserModuleError
from schemas.user_model import Feature

LAYOUT = Layout({}, {"x": Feature("x", "float32", (2,))}, "y")
both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])


def training(**fields: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"global_batch_size": 4, "epochs": 2, **fields})


def rows(count: int, label: int | None = None) -> tf.data.Dataset:
    """Batches of four; the label is 1 where the first number is positive, or as it is told to be."""
    x = np.random.default_rng(0).normal(size=(count, 2)).astype("float32")
    y = (x[:, :1] > 0).astype("float32") if label is None else np.full((count, 1), label, "float32")
    return tf.data.Dataset.from_tensor_slices(({"x": x}, y)).batch(4)


def build_model(backend: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
    inputs = {name: backend.Input(feature.shape, name=name) for name, feature in features.items()}
    hidden = backend.layers.Dropout(hyperparameters.get("dropout", 0.0))(inputs["x"])
    model = backend.Model(inputs, backend.layers.Dense(1, activation="sigmoid")(hidden))
    metrics = [make(backend) for make in hyperparameters.get("metrics", ())]
    model.compile(
        optimizer=backend.optimizers.SGD(hyperparameters.get("learning_rate", 0.1)),
        loss="binary_crossentropy",
        metrics=[backend.metrics.BinaryAccuracy(name="binary_accuracy"), *metrics],
    )
    return model


def fitted(
    config: TrainingConfig, build: Any = build_model, train: Any = None, validate: Any = None, **hyper: Any
) -> Fitted:
    seeded(config)
    train = rows(10) if train is None else train
    return fit(build, LAYOUT, hyper, config, train, rows(6) if validate is None else validate, 10)


# --- what is trained --------------------------------------------------------------------------------------------------


@both
def test_every_batch_of_every_epoch_is_a_step(backend: str) -> None:
    """Also those beyond the last ten, although ten steps are taken in a call."""
    result = fitted(training(backend=backend, epochs=3), train=rows(4 * 23 + 1))
    assert int(result.model.optimizer.iterations) == 3 * 24
    assert int(result.model.steps_per_execution) == 10
    assert int(fitted(training(backend=backend, epochs=1)).model.steps_per_execution) == 3


def test_steps_are_traced_once() -> None:
    """With the figures that Keras gives by itself, of a model whose own step does no more than Keras does too."""

    def stepping(backend: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
        class Stepping(backend.Model):  # type: ignore[name-defined]
            def train_step(self, data: Any) -> Any:
                return super().train_step(data)

        plain = build_model(backend, features, hyperparameters)
        model = Stepping(plain.inputs, plain.outputs[0])
        model.compile(plain.optimizer, "binary_crossentropy", [backend.metrics.BinaryAccuracy(name="binary_accuracy")])
        return model

    ours, own = (fitted(training(), build, dropout=0.0) for build in (build_model, stepping))
    assert ours.model.train_tf_function.experimental_get_tracing_count() == 1
    assert own.model.train_tf_function.experimental_get_tracing_count() == 2
    assert ours.history == own.history


@both
@pytest.mark.parametrize(("asked", "steps"), [(1, 1), (2, 2), (50, 3)])
def test_steps_of_an_execution_can_be_told(backend: str, asked: int, steps: int) -> None:
    """No more than an epoch has."""
    assert (
        int(fitted(training(backend=backend, epochs=1, steps_per_execution=asked)).model.steps_per_execution) == steps
    )


@both
def test_the_curve_is_kept_as_plain_numbers(backend: str) -> None:
    """Each metric that Keras logs, on both splits, one value for each epoch."""
    result = fitted(training(backend=backend, epochs=2))
    assert set(result.history) == {"loss", "binary_accuracy", "val_loss", "val_binary_accuracy"}
    assert all(len(values) == 2 and type(values[0]) is float for values in result.history.values())
    record = result.as_record()
    assert json.loads(json.dumps(record)) == record
    assert (record["epochs"], record["rows_per_epoch"], record["history"]) == (2, 10, result.history)
    assert record["seconds"] == round(result.seconds, 3)
    assert record["examples_per_s"] == pytest.approx(10 * 2 / result.seconds, abs=0.1)


def test_a_training_without_an_epoch_has_a_record_too() -> None:
    """No division by nothing."""
    record = Fitted(None, {}, 0.0, 10).as_record()
    assert (record["epochs"], record["examples_per_s"]) == (0, 0.0)


@both
def test_the_seed_alone_decides(backend: str) -> None:
    """Equal weights under equal names from equal seeds, dropout and all, whatever ran before; others from another seed."""

    def weights(seed: int) -> list[tuple[str, Any]]:
        model = fitted(training(backend=backend, seed=seed), dropout=0.5).model
        return [(variable.name, variable.numpy().tolist()) for variable in model.weights]

    first = weights(1)
    assert weights(1) == first
    assert weights(2) != first


def test_the_keras_of_each_backend() -> None:
    """By the words of the configuration."""
    assert keras_for("tf_keras") is tf_keras
    assert keras_for("keras3") is keras


@both
def test_the_model_is_built_from_features_and_hyperparameters(backend: str) -> None:
    """As they stand in the configuration, with the Keras of the backend."""
    seen: list[Any] = []

    def build(*arguments: Any) -> Any:
        seen.append(arguments)
        return build_model(*arguments)

    fitted(training(backend=backend, epochs=1), build, learning_rate=0.5)
    assert seen == [(keras_for(backend), LAYOUT.features, {"learning_rate": 0.5})]


# --- early stopping ---------------------------------------------------------------------------------------------------


@both
def test_the_best_weights_are_kept(backend: str) -> None:
    """Trained towards 1 and validated on 0, a model gets worse with every epoch: it stops and is as after the first."""
    config = training(backend=backend, epochs=9, early_stopping={"metric": "val_loss", "patience": 2})
    held_out = rows(6, label=0)
    result = fitted(config, train=rows(12, label=1), validate=held_out)
    curve = result.history["val_loss"]
    assert len(curve) == 3
    assert curve == sorted(curve)
    loss, *_ = result.model.evaluate(held_out, verbose=0)
    assert loss == pytest.approx(curve[0], rel=1e-5)
    assert loss < curve[1]


def scripted(name: str, step: float) -> Any:
    """A metric that grows by `step` each time it is begun, which is twice an epoch, whatever the model does."""

    def make(backend: ModuleType) -> Any:
        class Scripted(backend.metrics.Metric):
            def __init__(self) -> None:
                super().__init__(name=name)
                self.value = self.add_weight(name="value", initializer="zeros")

            def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
                pass

            def result(self) -> Any:
                return self.value + 0.0

            def reset_state(self) -> None:
                self.value.assign(self.value + step)

        return Scripted()

    return make


@pytest.mark.parametrize(
    ("backend", "metric"),
    [("tf_keras", name) for name in ("auc", "auc_1", "recall", "accuracy", "my_acc")] + [("keras3", "accuracy")],
)
@pytest.mark.parametrize(("step", "epochs"), [(1.0, 5), (-1.0, 2)], ids=["rising", "falling"])
def test_what_should_be_high_is_stopped_when_it_falls(backend: str, metric: str, step: float, epochs: int) -> None:
    """Also under the names that Keras gives to an accuracy."""
    config = training(backend=backend, epochs=5, early_stopping={"metric": f"val_{metric}", "patience": 1})
    assert len(fitted(config, metrics=[scripted(metric, step)]).history["loss"]) == epochs


@pytest.mark.parametrize(
    ("backend", "metric"),
    [("tf_keras", name) for name in ("mean_absolute_error", "miss_rate", "my_loss", "mse")] + [("keras3", "my_loss")],
)
@pytest.mark.parametrize(("step", "epochs"), [(1.0, 2), (-1.0, 5)], ids=["rising", "falling"])
def test_what_should_be_low_is_stopped_when_it_rises(backend: str, metric: str, step: float, epochs: int) -> None:
    """A loss, an error, a rate of misses."""
    config = training(backend=backend, epochs=5, early_stopping={"metric": f"val_{metric}", "patience": 1})
    assert len(fitted(config, metrics=[scripted(metric, step)]).history["loss"]) == epochs


@pytest.mark.parametrize(("mode", "epochs"), [("max", 5), ("min", 2)])
def test_the_configuration_can_tell_the_direction(mode: str, epochs: int) -> None:
    """For a metric whose name does not, and against a name that does."""
    for metric in ("usefulness", "my_loss"):
        config = training(epochs=5, early_stopping={"metric": f"val_{metric}", "patience": 1, "mode": mode})
        assert len(fitted(config, metrics=[scripted(metric, 1.0)]).history["loss"]) == epochs


@pytest.mark.parametrize("metric", ["calibration", "usefulness"])
def test_a_metric_without_a_known_direction_is_refused(metric: str) -> None:
    """To keep the worst weights for the best would go unnoticed."""
    config = training(early_stopping={"metric": f"val_{metric}"})
    with pytest.raises(
        SatisficeError, match="is not known to be better when it is higher, or when it is lower"
    ) as caught:
        fitted(config, metrics=[scripted(metric, 1.0)])
    assert (caught.value.thing, caught.value.got) == ("training.early_stopping.metric", f"val_{metric}")


@both
@pytest.mark.parametrize(
    ("metric", "remedy"),
    [
        ("val_binary_acuracy", "Did you mean 'val_binary_accuracy'?"),
        ("val_auc", "Add the metric where build_model compiles the model."),
    ],
)
def test_a_metric_that_the_model_does_not_log_is_refused_after_one_epoch(
    backend: str, metric: str, remedy: str
) -> None:
    """With what it logs; an hour of training comes not before the message."""
    epochs: list[int] = []
    config = training(backend=backend, epochs=5, early_stopping={"metric": metric})

    def build(*arguments: Any) -> Any:
        model = build_model(*arguments)
        begin = model.reset_metrics
        model.reset_metrics = lambda: (epochs.append(1), begin())[1]
        return model

    with pytest.raises(SatisficeError) as caught:
        fitted(config, build)
    assert str(caught.value) == (
        "training.early_stopping.metric: is not among what the model logs; "
        f"expected one of val_binary_accuracy, val_loss; got {metric}. {remedy}"
    )
    assert len(epochs) <= 3


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_build_model_that_raises_is_a_fault_of_the_module() -> None:
    """With the words of the error, and the error itself for its cause."""

    def build(*_: Any) -> Any:
        raise ValueError("no luck")

    with pytest.raises(UserModuleError, match="raised ValueError: no luck") as caught:
        fitted(training(), build)
    assert isinstance(caught.value.__cause__, ValueError)
    assert __name__ in str(caught.value)
    assert "build_model" in str(caught.value)


@both
@pytest.mark.parametrize("other", [None, "a model", 3])
def test_something_other_than_a_model_is_refused(backend: str, other: object) -> None:
    """It says what came and what should have come."""
    with pytest.raises(UserModuleError, match=f"a model of {keras_for(backend).__name__}; got {type(other).__name__}"):
        fitted(training(backend=backend), lambda *_: other)


@pytest.mark.parametrize(("backend", "other"), [("tf_keras", keras), ("keras3", tf_keras)])
def test_a_model_of_the_other_keras_is_refused(backend: str, other: ModuleType) -> None:
    """It would train, and fail when it is saved."""
    with pytest.raises(UserModuleError, match="returned something else"):
        fitted(training(backend=backend), lambda _, features, settings: build_model(other, features, settings))


@both
def test_a_model_of_several_outputs_is_refused(backend: str) -> None:
    """There is one label, and what ships answers one tensor."""

    def build(backend: ModuleType, features: Any, hyperparameters: Any) -> Any:
        inputs = {"x": backend.Input((2,), name="x")}
        model = backend.Model(inputs, {name: backend.layers.Dense(1, name=name)(inputs["x"]) for name in ("a", "b")})
        model.compile("sgd", {"a": "mse", "b": "mse"})
        return model

    with pytest.raises(UserModuleError, match=r"a model with 2 outputs, and there is one label; expected one tensor"):
        fitted(training(backend=backend), build)


@both
def test_what_a_loop_would_pass_over_is_refused_by_name(backend: str) -> None:
    """All of it at once, and with what to do; on one device Keras itself does it."""

    def build(backend: ModuleType, features: Any, hyperparameters: Any) -> Any:
        class Own(backend.Model):
            def fit(self, *arguments: Any, **named: Any) -> Any:
                return super().fit(*arguments, **named)

            def make_train_function(self, *arguments: Any, **named: Any) -> Any:
                return super().make_train_function(*arguments, **named)

        inputs = {"x": backend.Input((2,), name="x")}
        model = Own(inputs, backend.layers.Dense(1, activation="sigmoid")(inputs["x"]))
        model.compile("sgd", "binary_crossentropy", run_eagerly=True)
        return model

    config = training(backend=backend, epochs=1)
    assert fitted(config, build).history["loss"]
    seeded(config)
    course = Course(Scope(coordinator=object()))
    with pytest.raises(UserModuleError) as caught:
        fit(build, LAYOUT, {}, config, rows(10), rows(6), 10, course)
    assert [fault.problem for fault in caught.value.faults] == [
        "returned a model with a fit of its own, which is not called under this strategy",
        "returned a model with a make_train_function of its own, which is not called under this strategy",
        "compiled with run_eagerly=True, which this strategy cannot do",
    ]
    assert "training.strategy: one_device" in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "gather"), [(["CPU:0", "CPU:1"], False), (["GPU:0"], False), (["GPU:0", "GPU:1"], True)]
)
def test_a_smaller_last_batch_goes_by_itself_where_gradients_are_gathered(devices: list[str], gather: bool) -> None:
    """Between several GPUs as between several workers."""
    strategy = SimpleNamespace(extended=SimpleNamespace(worker_devices=[f"/device:{name}" for name in devices]))
    assert gathers(strategy) is gather
    assert not gathers(None)


@both
def test_a_model_that_is_not_compiled_is_refused(backend: str) -> None:
    """Before any data is read."""

    def build(backend: ModuleType, features: Any, hyperparameters: Any) -> Any:
        inputs = {"x": backend.Input((2,), name="x")}
        return backend.Model(inputs, backend.layers.Dense(1)(inputs["x"]))

    with pytest.raises(UserModuleError, match="not compiled"):
        fitted(training(backend=backend), build)
