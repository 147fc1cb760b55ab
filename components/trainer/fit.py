"""Fits a user's model: builds it, trains it with early stopping, and keeps the curve."""

from __future__ import annotations

import contextlib
import importlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import tensorflow as tf

from components import progress
from components.trainer.curves import Meter, TensorBoard
from components.trainer.inputs import Layout
from components.trainer.loop import Loop, Way, not_followed
from components.trainer.precision import answer_in_float32, policy
from components.trainer.preemption import listening
from components.trainer.replicas import InStep
from components.trainer.resume import Resume, State, restore
from components.trainer.scope import Scope, gathers
from components.trainer.servers import Served
from components.trainer.warm_start import Champion, begin_from
from schemas.config import EarlyStoppingConfig, TrainingConfig
from schemas.errors import Fault, SatisficeError, UserModuleError, close_match
from schemas.metrics import QUALITY
from schemas.strategies import FLOAT32
from schemas.user_model import BuildModel, raised

__all__ = ["Course", "Fitted", "Watch", "built", "fit", "keras_for", "mode_of", "seeded"]

_KERAS = {"tf_keras": "tf_keras", "keras3": "keras"}
_NUMBER = re.compile(r"_\d+$")
_HIGH = ("accuracy", "acc", "auc")
_LOW = ("loss", "error", "mae", "mape", "mse", "msle", "rmse")
"""How Keras and its users name metrics, beside those that a gate may have."""
_STEPS = ("train_step", "test_step", "compute_loss", "compute_metrics")
"""What a model of Keras does in a step, as far as losses and metrics go."""
_STEPS_PER_EXECUTION = 10
"""Small models are bound by the cost of a call from Python; ten steps a call took 80 % off it (batch 256)."""


class Watch(Protocol):
    """Whoever may end a training: a search that has better ones."""

    def built(self, model: Any) -> None:
        """Told of the model before it is trained; what is raised here ends the training."""

    def epoch(self, number: int, figures: Mapping[str, float]) -> bool:
        """Told of the figures that were logged in an epoch, counted from 0; whether another may begin."""


@dataclass(frozen=True)
class Course:
    """How a training goes, beside what the configuration says of the model.

    Attributes:
        scope: in which the model is built and trained.
        epochs_in_train: whether the training data holds all epochs from the first that is left to do, one after the
            other; otherwise it is one pass.
        state: where the training begins.
        resume: keeps the state after each epoch; None where nobody does.
        precision: in what layers compute while they train: `float32`, `bfloat16` or `float16`.
        champion: from whose weights the training begins; None where that is not asked for.
        curves: folder in which TensorBoard will look for them; None where this process writes none.
        shared: folder by which the workers of a synchronous cluster agree on when to stop; None where there is one process.
        watch: who may end it; None where nobody may.
    """

    scope: Scope = field(default_factory=Scope)
    epochs_in_train: bool = False
    state: State = field(default_factory=State)
    resume: Resume | None = None
    precision: str = FLOAT32
    champion: Champion | None = None
    curves: Path | None = None
    shared: Path | None = None
    watch: Watch | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came about.

    Attributes:
        model: the Keras model, with the best epoch's weights where early stopping watched.
        history: metric name to one value per epoch, as Keras logs them.
        seconds: spent in training.
        rows: training rows per epoch.
        resumed_at: epochs that were done before, where the training was taken up again.
        resumed_at_step: steps of the next epoch that were done before.
        meter: what was measured of the epochs that were trained here.
        warm_start: what came of the champion's weights; None where they were not asked for.
    """

    model: Any
    history: dict[str, list[float]]
    seconds: float
    rows: int
    resumed_at: int = 0
    resumed_at_step: int = 0
    meter: Meter = field(default_factory=lambda: Meter(0))
    warm_start: dict[str, Any] | None = None

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values for the lineage."""
        epochs = len(next(iter(self.history.values()), []))
        return {
            "epochs": epochs,
            "rows_per_epoch": self.rows,
            "seconds": round(self.seconds, 3),
            "examples_per_s": round(self.rows * (epochs - self.resumed_at) / max(self.seconds, 1e-9), 1),
            **({"resumed_at_epoch": self.resumed_at} if self.resumed_at or self.resumed_at_step else {}),
            **({"resumed_at_step": self.resumed_at_step} if self.resumed_at_step else {}),
            **({"warm_start": self.warm_start} if self.warm_start else {}),
            "history": self.history,
            "rates": self.meter.epochs,
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
        train, validate: batches of `(features, label)`, of known number; of training those that are left to do.
        rows: number of training rows of an epoch, for the record.
        course: under which strategy, and where it begins; None for one device and from the beginning.

    Returns:
        The trained model. What was trained under a strategy or in mixed precision comes as a model in float32 without a
        strategy that has its weights, so that whoever saves or serves it needs neither the strategy, nor the other
        processes, nor a processor that computes in 16 bits.

    Raises:
        UserModuleError: `build_model` fails, or returns something other than a compiled Keras model.
        SatisficeError: early stopping watches what the model does not log, or what is not known to be better when it is
            high or when it is low.
    """
    course = course or Course()
    keras = keras_for(training.backend)
    left = 0 if course.state.stopped else training.epochs - course.state.epochs
    batches = int(train.cardinality()) + course.state.step
    steps = max(1, batches // (max(1, left) if course.epochs_in_train else 1))  # none where all is done

    def build() -> Any:
        return built(build_model, keras, layout, hyperparameters)

    with course.scope():
        with policy(keras, course.precision):
            model = build()
        if course.precision != FLOAT32:
            answer_in_float32(_where(build_model), keras, model, layout)
        if course.watch is not None:
            course.watch.built(model)
        _set_up(model, training, steps, rows, course)
        begun = not (course.state.epochs or course.state.step)
        warm_start = begin_from(course.champion, model, assign=begun) if course.champion else None
        restore(model, course.state)
    if _is_looped(training, course.scope):
        faults = not_followed(keras, model)
        if faults:
            raise UserModuleError(_where(build_model), faults)
    way = _way(keras, model, training, course.scope, build, train.element_spec)
    trained = model if way is None else Loop(keras, model, way)
    if begun and training.backend == "tf_keras" and course.scope.strategy is None and course.precision == FLOAT32:
        _make_variables(keras, model, train.element_spec)
    meter = Meter(rows)
    started = time.monotonic()
    history = _train(keras, model, trained, training, train, validate, steps, left, course, meter)
    seconds = time.monotonic() - started
    if course.scope.strategy is not None or course.precision != FLOAT32:
        model = _rebuilt(keras, model, build)
    return Fitted(model, history, seconds, rows, course.state.epochs, course.state.step, meter, warm_start)


def _is_looped(training: TrainingConfig, scope: Scope) -> bool:
    """Whether a loop takes the place of Keras' own `fit`."""
    return scope.coordinator is not None or (training.backend == "keras3" and scope.strategy is not None)


def _way(
    keras: ModuleType, model: Any, training: TrainingConfig, scope: Scope, build: Callable[[], Any], spec: Any
) -> Way | None:
    """What takes the place of the model's own `fit`; None where that does."""
    if not _is_looped(training, scope):
        return None
    if scope.coordinator is not None:
        return Served(keras, model, scope, training.global_batch_size, build, spec)
    return InStep(keras, model, scope.strategy, spec)


@dataclass(frozen=True)
class _Part:
    """A call of `fit`: what is left of an epoch that was begun, or whole epochs.

    Attributes:
        train: its batches.
        epochs: the first, and the one after the last.
        steps: of an epoch; None where the batches are one pass.
        done: steps of the first epoch that were done before.
    """

    train: tf.data.Dataset
    epochs: tuple[int, int]
    steps: int | None
    done: int = 0


def _parts(train: tf.data.Dataset, training: TrainingConfig, steps: int, left: int, course: Course) -> list[_Part]:
    done, first = course.state.step, training.epochs - left
    whole = steps if course.epochs_in_train else None
    if not (done and left):
        return [_Part(train, (first, training.epochs), whole)]
    parts = [_Part(train.take(steps - done), (first, first + 1), steps - done, done)]
    rest = _Part(train.skip(steps - done), (first + 1, training.epochs), whole)
    return [*parts, rest] if left > 1 else parts


def _train(
    keras: ModuleType,
    model: Any,
    trained: Any,
    training: TrainingConfig,
    train: tf.data.Dataset,
    validate: tf.data.Dataset,
    steps: int,
    left: int,
    course: Course,
    meter: Meter,
) -> dict[str, list[float]]:
    """Trains as `trained` does, and gives the model's best weights back; the curve of all epochs, also of those that were done before."""
    early = _early_stopping(keras, training.early_stopping) if training.early_stopping else None
    history = {name: list(values) for name, values in course.state.history.items()}
    reporter = _reporter(keras, training, steps, done=course.state.epochs, step=course.state.step)
    with _tensorboard(course) as tensorboard, listening(course.shared) as preemption:
        keeper = (
            course.resume.callback(keras, course.state, early, steps, preemption) if course.resume is not None else None
        )
        for part in _parts(train, training, steps, left, course):
            if part.done and trained is model:
                model.evaluate(part.train.take(1), verbose=0)  # makes the metrics' variables, which are put back then
            if keeper is not None:
                keeper.offset = part.done
            reporter.done_before = part.done
            measuring = meter.callback(keras, (steps - part.done) / steps, tensorboard)
            log = trained.fit(
                part.train,
                validation_data=validate,
                initial_epoch=part.epochs[0],
                epochs=part.epochs[1],
                steps_per_epoch=part.steps,
                callbacks=[
                    *_stopping(keras, training, early),
                    *([_watching(keras, course.watch)] if course.watch else []),
                    measuring,
                    *([keeper] if keeper else []),
                    reporter,
                ],
                shuffle=False,  # the data set does that
                verbose=0,
            )
            for name, values in log.history.items():
                history.setdefault(name, []).extend(float(value) for value in values)
            if model.stop_training:
                break
    if early is not None and early.best_weights is not None:
        with course.scope():
            model.set_weights(early.best_weights)
    return history


@contextlib.contextmanager
def _tensorboard(course: Course) -> Iterator[TensorBoard | None]:
    """Writes the curve of what was done before, and takes what comes; None where this process writes none."""
    if course.curves is None:
        yield None
        return
    tensorboard = TensorBoard(course.curves)
    tensorboard.write(course.state.history)
    try:
        yield tensorboard
    finally:
        tensorboard.close()


def _set_up(model: Any, training: TrainingConfig, steps: int, rows: int, course: Course) -> None:
    asked = _STEPS_PER_EXECUTION if training.steps_per_execution == "auto" else training.steps_per_execution
    most = max(1, min(int(asked), steps, training.checkpoint_every_steps or steps))
    of_keras3 = training.backend == "keras3" and course.scope.strategy is None
    if of_keras3 and course.epochs_in_train:  # its last call of an epoch would take steps of the next
        most = _dividing(steps, most, course.state.step)
    if rows % training.global_batch_size and gathers(course.scope.strategy):
        # The last batch by itself: the gradients of an embedding are gathered by a collective operation that keeps the
        # shape which it had first in a call.
        most = _dividing(steps - 1, most, course.state.step)
    model.steps_per_execution = most
    model.jit_compile = training.jit_compile
    if isinstance(course.scope.strategy, tf.distribute.experimental.CentralStorageStrategy):
        _share_scheduled_rate(model.optimizer)


def _share_scheduled_rate(optimizer: Any) -> None:
    """Lets all replicas set the rate of a tf_keras schedule, which they share where variables are in one place.

    tf_keras makes its variable without saying how values come together, and TensorFlow refuses to set such a one.
    """
    rate = getattr(optimizer, "_current_learning_rate", None)
    if isinstance(rate, tf.Variable):
        optimizer._current_learning_rate = tf.Variable(  # noqa: SLF001 - tf_keras has no other way to it
            rate.read_value(),
            trainable=False,
            name=rate.name.split(":")[0],
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def _make_variables(keras: ModuleType, model: Any, spec: Any) -> None:
    """Makes the variables of optimizer and metrics, which Keras makes in the first step, and then traces all steps again.

    That takes a third of what the first step takes. A model with steps of its own, or without layers whose one output is
    known, is left to Keras.

    Args:
        keras: `tf_keras`.
        model: compiled.
        spec: of a batch of `(features, label)`.
    """
    kind = type(model)
    plain = all(getattr(kind, name) is getattr(keras.Model, name) for name in _STEPS)
    outputs = list(getattr(model, "outputs", None) or [])
    if not plain or len(outputs) != 1 or model.output is not outputs[0] or not hasattr(model.optimizer, "build"):
        return
    model.optimizer.build(model.trainable_variables)
    model.compiled_loss.build(outputs[0])
    model.compiled_metrics.build(outputs[0], spec[1])


def _dividing(steps: int, most: int, done: int) -> int:
    """The largest number of steps a call by which some steps divide, and those of them that are done.

    >>> _dividing(40, 10, 0), _dividing(13, 10, 0), _dividing(40, 10, 36)
    (10, 1, 4)
    """
    return max(size for size in range(1, most + 1) if steps % size == done % size == 0)


def _rebuilt(keras: ModuleType, model: Any, build: Callable[[], Any]) -> Any:
    """The same model on one device and in float32; reading the weights takes all workers."""
    weights = model.get_weights()
    keras.backend.clear_session()  # layers are numbered from the start
    plain = build()
    plain.set_weights(weights)
    return plain


def _where(build_model: BuildModel) -> str:
    return f"module {getattr(build_model, '__module__', '?')}"


def built(build_model: BuildModel, keras: ModuleType, layout: Layout, hyperparameters: Mapping[str, Any]) -> Any:
    """The user's model, untrained.

    Raises:
        UserModuleError: as `fit`.
    """
    where = _where(build_model)
    try:
        model = build_model(keras, layout.features, hyperparameters)
    except Exception as error:
        raise UserModuleError(where, [Fault("build_model", raised(build_model, error))]) from error
    if not isinstance(model, keras.Model):
        raise UserModuleError(
            where,
            [Fault("build_model", "returned something else", f"a model of {keras.__name__}", type(model).__name__)],
        )
    if not getattr(model, "optimizer", None):
        raise UserModuleError(
            where, [Fault("build_model", "returned a model that is not compiled", "model.compile(...) called")]
        )
    outputs = getattr(model, "outputs", None) or []  # none of a subclass of Model before its first call
    if len(outputs) > 1:
        problem = f"returned a model with {len(outputs)} outputs, and there is one label"
        expected = "one tensor, [batch, outputs]; what belongs together can be concatenated"
        raise UserModuleError(where, [Fault("build_model", problem, expected)])
    return model


def _stopping(keras: ModuleType, training: TrainingConfig, early: Any) -> list[Any]:
    """What stops the training, behind what makes sure after each epoch that it can be watched."""
    config = training.early_stopping
    if config is None:
        return []
    watched = config

    class Checking(keras.callbacks.Callback):  # type: ignore[name-defined]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            _check_watched(watched, logs or {})

    return [Checking(), early]


def _watching(keras: ModuleType, watch: Watch) -> Any:
    """What ends the training where whoever watches wants it ended."""

    class Watching(keras.callbacks.Callback):  # type: ignore[name-defined]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if not watch.epoch(epoch, {name: float(value) for name, value in (logs or {}).items()}):
                self.model.stop_training = True

    return Watching()


def _early_stopping(keras: ModuleType, early: EarlyStoppingConfig) -> Any:
    """What stops the training, and knows the best weights."""

    class Stopping(keras.callbacks.EarlyStopping):  # type: ignore[name-defined]
        def on_train_end(self, logs: Any = None) -> None:
            """Leaves the weights: the end of a call of `fit` need not be the end of the training."""

    return Stopping(
        monitor=early.metric, mode=mode_of(early) or "min", patience=early.patience, restore_best_weights=True
    )


def _reporter(keras: ModuleType, training: TrainingConfig, steps: int, *, done: int, step: int) -> Any:
    """A callback that counts steps. It looks at no figure before an epoch ends, so that nothing waits for the device.

    Its `done_before` are the steps of the next epoch that were done before this call of `fit`.
    """
    early, epochs = training.early_stopping, training.epochs
    progress.begin(
        "steps", steps * (epochs - done) - step, phase=f"epoch {done + 1}/{epochs}", may_end_early=early is not None
    )

    class Reporter(keras.callbacks.Callback):  # type: ignore[name-defined]
        _supports_tf_logs = only_counts = True
        done = done_before = 0

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


def mode_of(early: EarlyStoppingConfig) -> str | None:
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
    if mode_of(early) is None:
        raise SatisficeError(
            "training.early_stopping.metric",
            "is not known to be better when it is higher, or when it is lower",
            got=metric,
            remedy="Say it: training.early_stopping.mode: max, or min.",
        )
