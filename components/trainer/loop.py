"""Training as Keras' `fit` trains, where its own cannot: one loop of epochs, and a way for the batches to be trained on.

Keras 3's `fit` fails with several workers (keras issue 20585), clips each replica's gradients by themselves, and has no code
for parameter servers; under those tf_keras' reads the rows in each worker by itself, so that none is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

import tensorflow as tf

from schemas.errors import Fault

__all__ = ["Loop", "Way", "build_under", "not_followed"]

_OWN_WAYS = ("fit", "evaluate", "make_train_function", "make_test_function")
_ONE_DEVICE = "it left out, or training.strategy: one_device"


class Way(Protocol):
    """How batches come to the replicas, and what is trained on them to the model."""

    def read(self, batches: tf.data.Dataset) -> Iterator[Any]:
        """An iterator over batches that begin anew where they end, as `train` takes it."""

    def reset(self) -> None:
        """Metrics begin from nothing."""

    def train(self, batches: Iterator[Any], steps: int, told: Any, *, each: bool) -> Mapping[str, float]:
        """Trains on the next batches, from metrics as they are.

        Args:
            batches: of `read`.
            steps: how many.
            told: Keras' `CallbackList`, which hears of the steps that are done.
            each: whether it hears of their figures as well; reading them takes all workers, which must agree on it.

        Returns:
            The metrics, by name.
        """

    def evaluate(self, batches: tf.data.Dataset) -> Mapping[str, float]:
        """The metrics over one pass, each row once, by name."""


class Loop:
    """A model's way of training, in the place of its own."""

    def __init__(self, keras: ModuleType, model: Any, way: Way) -> None:
        """Take a compiled model that was built in the scope of its strategy, the Keras of it, and the way."""
        self._keras, self._model, self._way = keras, model, way

    def fit(
        self,
        train: tf.data.Dataset,
        *,
        validation_data: tf.data.Dataset,
        initial_epoch: int,
        epochs: int,
        steps_per_epoch: int | None,
        callbacks: list[Any],
        **_: Any,
    ) -> Any:
        """Trains as Keras' `fit` does.

        Args:
            train: batches of `(features, label)`: those of all epochs one after the other, or of one pass where
                `steps_per_epoch` is None.
            validation_data: batches of `(features, label)`.
            initial_epoch, epochs: numbers of the first epoch, and of the one after the last.
            steps_per_epoch: batches of an epoch.
            callbacks: of Keras, the same ones in all workers. They hear of each call of `steps_per_execution` steps, and of
                the figures so far where one of them would look at these; of a pass of validation as of one call.

        Returns:
            Keras' `History`.

        Raises:
            SatisficeError: workers have not done what they were asked for.
        """
        model, callback = self._model, self._keras.callbacks
        steps = steps_per_epoch or int(train.cardinality())
        history = callback.History()
        told = callback.CallbackList([*callbacks, history], model=model, epochs=epochs, steps=steps, verbose=0)
        model.stop_training = False
        batches = self._way.read(train.repeat())
        each = any(_looks_at_steps(one, callback.Callback) for one in callbacks)
        told.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in range(initial_epoch, epochs):
            self._way.reset()
            told.on_epoch_begin(epoch)
            logs = {**self._way.train(batches, steps, told, each=each), **self._validated(validation_data, told)}
            told.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        with model.distribute_strategy.scope():
            model.optimizer.finalize_variable_values(model.trainable_variables)
        told.on_train_end(logs)
        return history

    def _validated(self, validation_data: tf.data.Dataset, told: Any) -> dict[str, float]:
        steps = int(validation_data.cardinality())
        told.on_test_begin()
        if steps:
            told.on_test_batch_begin(0)
        found = self._way.evaluate(validation_data)
        if steps:
            told.on_test_batch_end(steps - 1, {**found})
        told.on_test_end({**found})
        return {f"val_{name}": value for name, value in found.items()}


def _looks_at_steps(callback: Any, base: Any) -> bool:
    """Whether a callback of Keras may look at the figures of a step; `base` is Keras' own class of callbacks.

    Keras' own that write or save do not where they are to do so once an epoch; one of ours that counts alone says so.
    """
    if getattr(callback, "only_counts", False) or "epoch" in (
        getattr(callback, "save_freq", ""),
        getattr(callback, "update_freq", ""),
    ):
        return False
    return any(
        getattr(getattr(callback, name), "__func__", None) is not getattr(base, name)
        for name in ("on_batch_end", "on_train_batch_end")
    )


def not_followed(keras: ModuleType, model: Any) -> list[Fault]:
    """What a compiled model asks of Keras' own `fit`, and a `Loop` would pass over in silence."""
    own = [name for name in _OWN_WAYS if getattr(type(model), name) is not getattr(keras.Model, name)]
    faults = [
        Fault("build_model", f"returned a model with a {name} of its own, which is not called under this strategy",
              "train_step and test_step, which are, or training.strategy: one_device")
        for name in own
    ]  # fmt: skip
    if model.run_eagerly:
        faults.append(
            Fault("build_model", "compiled with run_eagerly=True, which this strategy cannot do", _ONE_DEVICE)
        )
    return faults


def build_under(strategy: Any, model: Any, spec: Any) -> None:
    """Makes what a Keras 3 model has not made yet, metrics and the optimizer's state, in the scope of its strategy.

    Args:
        strategy: of `tf.distribute`; None where there is none.
        model: compiled.
        spec: of a batch, `(features, label)`.
    """
    if strategy is None:
        model._symbolic_build(data_batch=spec)  # noqa: SLF001 - what Keras' own `fit` calls under a strategy
        return
    with strategy.scope():
        model._symbolic_build(data_batch=spec)  # noqa: SLF001
