"""Fits a user's model: builds it, trains it with early stopping, and keeps the curve."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import tensorflow as tf

from components import progress
from components.trainer.inputs import Layout
from components.trainer.resume import Resume, State, restore
from components.trainer.scope import Scope
from components.trainer.servers import ServedModel
from schemas.config import EarlyStoppingConfig, TrainingConfig
from schemas.errors import Fault, SatisficeError, UserModuleError, close_match
from schemas.metrics import QUALITY
from schemas.user_model import BuildModel

__all__ = ["Course", "Fitted", "fit", "keras_for", "seeded"]

_KERAS = {"tf_keras": "tf_keras", "keras3": "keras"}
_NUMBER = re.compile(r"_\d+$")
_HIGH = ("accuracy", "acc", "auc")
_LOW = ("loss", "error", "mae", "mape", "mse", "msle", "rmse")
"""How Keras and its users name metrics, beside those that a gate may have."""
_STEPS_PER_EXECUTION = 10
"""Small models are bound by the cost of a call from Python; ten steps a call took 80 % off it (batch 256)."""


@dataclass(frozen=True)
class Course:
    """How a training goes, beside what the configuration says of the model.

    Attributes:
        scope: in which the model is built and trained.
        epochs_in_train: whether the training data holds all epochs from the first that is left to do, one after the
            other; otherwise it is one pass.
        state: where the training begins.
        resume: keeps the state after each epoch; None where nobody does.
    """

    scope: Scope = field(default_factory=Scope)
    epochs_in_train: bool = False
    state: State = field(default_factory=State)
    resume: Resume | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came about.

    Attributes:
        model: the Keras model, with the best epoch's weights where early stopping watched.
        history: metric name to one value per epoch, as Keras logs them.
        seconds: spent in training.
        rows: training rows per epoch.
        resumed_at: epochs that were done before, where the training was taken up again.
    """

    model: Any
    history: dict[str, list[float]]
    seconds: float
    rows: int
    resumed_at: int = 0

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values for the lineage."""
        epochs = len(next(iter(self.history.values()), []))
        return {
            "epochs": epochs,
            "rows_per_epoch": self.rows,
            "seconds": round(self.seconds, 3),
            "examples_per_s": round(self.rows * (epochs - self.resumed_at) / max(self.seconds, 1e-9), 1),
            **({"resumed_at_epoch": self.resumed_at} if self.resumed_at else {}),
            "history": self.history,
        }


def keras_for(backend: str) -> ModuleType:
    """The Keras that a backend stands for (`tf_keras` or `keras3`)."""
    return importlib.import_module(_KERAS[backend])


def seeded(training: TrainingConfig) -> None:
    """Begins a training from its seed: call it before the input pipeline is built, which draws on it as well.

    Layers are numbered from the start, so that equal trainings save equal weights under equal names.
    """
    keras = keras_for(training.backend)
    keras.backend.clear_session()
    keras.utils.set_random_seed(training.seed)


def fit(
    build_model: BuildModel,
    layout: Layout,
    hyperparameters: Mapping[str, Any],
    training: TrainingConfig,
    train: tf.data.Dataset,
    validate: tf.data.Dataset,
    rows: int,
    course: Course | None = None,
) -> Fitted:
    """Builds and trains a model.

    Args:
        build_model: of the user's module.
        layout: of the transformed examples.
        hyperparameters: handed to `build_model` as they stand in the configuration.
        training: the configuration's section.
        train, validate: batches of `(features, label)`, of known number.
        rows: number of training rows, for the record.
        course: under which strategy, and where it begins; None for one device and from the beginning.

    Returns:
        The trained model. What was trained under a strategy comes as a model without one that has its weights, so that
        whoever saves or serves it needs neither the strategy nor the other processes.

    Raises:
        UserModuleError: `build_model` fails, or returns something other than a compiled Keras model.
        SatisficeError: early stopping watches what the model does not log, or what is not known to be better when it is
            high or when it is low.
    """
    course = course or Course()
    keras = keras_for(training.backend)
    left = 0 if course.state.stopped else training.epochs - course.state.epochs
    steps = max(
        1, int(train.cardinality()) // (max(1, left) if course.epochs_in_train else 1)
    )  # none where all is done
    with course.scope():
        model = _build(build_model, keras, layout, hyperparameters)
        _set_up(model, training, steps, distributed=course.scope.strategy is not None)
        restore(model, course.state)

    def beside() -> Any:
        return _build(build_model, keras, layout, hyperparameters)

    served = course.scope.coordinator is not None
    trained = ServedModel(keras, model, course.scope, training.global_batch_size, beside) if served else model
    started = time.monotonic()
    log = trained.fit(
        train,
        validation_data=validate,
        initial_epoch=training.epochs - left,
        epochs=training.epochs,
        steps_per_epoch=steps if course.epochs_in_train else None,
        callbacks=_callbacks(keras, training, course, steps),
        shuffle=False,  # the data set does that
        verbose=0,
    )
    seconds = time.monotonic() - started
    history = {name: list(values) for name, values in course.state.history.items()}
    for name, values in log.history.items():
        history.setdefault(name, []).extend(float(value) for value in values)
    if course.scope.strategy is not None:
        model = _without_strategy(keras, model, beside)
    return Fitted(model, history, seconds, rows, course.state.epochs)


def _set_up(model: Any, training: TrainingConfig, steps: int, *, distributed: bool) -> None:
    asked: int | str = training.steps_per_execution
    if asked == "auto":  # Keras 3 fails on the last batch of an epoch where several replicas take several steps a call
        asked = 1 if distributed and training.backend == "keras3" else _STEPS_PER_EXECUTION
    model.steps_per_execution = max(1, min(int(asked), steps))
    model.jit_compile = training.jit_compile


def _callbacks(keras: ModuleType, training: TrainingConfig, course: Course, steps: int) -> list[Any]:
    callbacks = _early_stopping(keras, training.early_stopping) if training.early_stopping else []
    if course.resume is not None:
        callbacks.append(course.resume.callback(keras, course.state, callbacks[-1] if callbacks else None))
    return [*callbacks, _reporter(keras, training, steps, done=course.state.epochs)]


def _without_strategy(keras: ModuleType, model: Any, build: Callable[[], Any]) -> Any:
    """The same model on one device; reading the weights takes all workers."""
    weights = model.get_weights()
    keras.backend.clear_session()  # layers are numbered from the start
    plain = build()
    plain.set_weights(weights)
    return plain


def _build(build_model: BuildModel, keras: ModuleType, layout: Layout, hyperparameters: Mapping[str, Any]) -> Any:
    where = f"module {getattr(build_model, '__module__', '?')}"
    try:
        model = build_model(keras, layout.features, hyperparameters)
    except Exception as error:
        raise UserModuleError(where, [Fault("build_model", f"raised {type(error).__name__}: {error}")]) from error
    if not isinstance(model, keras.Model):
        raise UserModuleError(
            where,
            [Fault("build_model", "returned something else", f"a model of {keras.__name__}", type(model).__name__)],
        )
    if not getattr(model, "optimizer", None):
        raise UserModuleError(
            where, [Fault("build_model", "returned a model that is not compiled", "model.compile(...) called")]
        )
    return model


def _early_stopping(keras: ModuleType, early: EarlyStoppingConfig) -> list[Any]:
    """What stops the training, behind what makes sure after the first epoch that it can be watched."""

    def check(_: int, logs: Mapping[str, Any]) -> None:
        _check_watched(early, logs)

    return [
        keras.callbacks.LambdaCallback(on_epoch_end=check),
        keras.callbacks.EarlyStopping(
            monitor=early.metric, mode=_mode(early) or "min", patience=early.patience, restore_best_weights=True
        ),
    ]


def _reporter(keras: ModuleType, training: TrainingConfig, steps: int, *, done: int) -> Any:
    """A callback that counts steps. It looks at no figure before an epoch ends, so that nothing waits for the device."""
    early, epochs = training.early_stopping, training.epochs

    class Reporter(keras.callbacks.Callback):  # type: ignore[name-defined]
        _supports_tf_logs = True
        done = 0

        def on_train_begin(self, logs: Any = None) -> None:
            left = steps * (epochs - done)
            progress.begin("steps", left, phase=f"epoch {done + 1}/{epochs}", may_end_early=early is not None)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.done = 0
            progress.advance(0, phase=f"epoch {epoch + 1}/{epochs}")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            progress.advance(batch + 1 - self.done)
            self.done = batch + 1

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            watched = early.metric if early else "val_loss"
            progress.advance(0, figures={watched: float(logs[watched])} if watched in (logs or {}) else None)

    return Reporter()


def _mode(early: EarlyStoppingConfig) -> str | None:
    """`max` where a metric should be high, `min` where it should be low, by its name; None where that does not tell.

    Keras numbers equal names.
    """
    if early.mode != "auto":
        return early.mode
    name = _NUMBER.sub("", early.metric.removeprefix("val_"))
    better = QUALITY[name].better if name in QUALITY else ""
    if better == "higher" or name.endswith(_HIGH):
        return "max"
    return "min" if better == "lower" or name.endswith(_LOW) else None


def _check_watched(early: EarlyStoppingConfig, logs: Mapping[str, Any]) -> None:
    metric = early.metric
    if metric not in logs:
        logged = sorted(name for name in logs if name.startswith("val_"))
        guess = close_match(metric, logged)
        raise SatisficeError(
            "training.early_stopping.metric",
            "is not among what the model logs",
            expected=f"one of {', '.join(logged)}",
            got=metric,
            remedy=f"Did you mean {guess!r}?" if guess else "Add the metric where build_model compiles the model.",
        )
    if _mode(early) is None:
        raise SatisficeError(
            "training.early_stopping.metric",
            "is not known to be better when it is higher, or when it is lower",
            got=metric,
            remedy="Say it: training.early_stopping.mode: max, or min.",
        )
