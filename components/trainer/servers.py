"""Training with parameter servers: the chief hands batches to workers, which update shared weights as each comes to it.

The chief reads the rows and sends them, in the order in which one device would take them: a row is handed out once in an
epoch, to whichever worker is free. What a lost worker had not reported as done is handed out again by TensorFlow's
coordinator. Validation is reckoned by the chief, on a copy of the weights, so that it counts every row once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf

from components.trainer.scope import Scope
from schemas.errors import SatisficeError

__all__ = ["ServedModel"]

_AHEAD = 4
"""Calls for each worker that are on their way: enough that none waits for the chief, few enough to be held in memory."""


_CALLS = 2
"""For each worker in an epoch at least, so that all of them have something to do."""


class ServedModel:
    """A tf_keras model whose variables lie on parameter servers, and its way of training."""

    def __init__(self, keras: ModuleType, model: Any, scope: Scope, batch_size: int, copy: Callable[[], Any]) -> None:
        """Take a model that was built in the scope, the rows of a step, and what builds the same model beside it."""
        self._keras, self._model, self._scope, self._batch_size = keras, model, scope, batch_size
        keras.backend.reset_uids()  # the copy's metrics are named like the model's
        self._beside = copy()

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
            callbacks: of Keras.

        Returns:
            Keras' `History`.

        Raises:
            SatisficeError: the workers report other rows than they were sent.
        """
        model, callback = self._model, self._keras.callbacks
        steps = steps_per_epoch or int(train.cardinality())
        history = callback.History()
        told = callback.CallbackList([*callbacks, history], model=model, epochs=epochs, steps=steps, verbose=0)
        call = _call(model, train.element_spec)
        model.stop_training = False
        batches = iter(train)
        told.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            told.on_epoch_begin(epoch)
            logs = {**self._epoch(batches, steps, call, told), **self._validated(validation_data, told)}
            told.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
            if steps_per_epoch is None:
                batches = iter(train)
        told.on_train_end()
        return history

    def _validated(self, validation_data: tf.data.Dataset, told: Any) -> dict[str, float]:
        told.on_test_begin()
        self._beside.set_weights(self._model.get_weights())
        found = self._beside.evaluate(validation_data, verbose=0, return_dict=True)
        told.on_test_end()
        return {f"val_{name}": value for name, value in found.items()}

    def _epoch(self, batches: Iterator[Any], steps: int, call: Any, told: Any) -> dict[str, float]:
        """Hands out the batches of an epoch and waits for all of them; the metrics."""
        model, coordinator = self._model, self._scope.coordinator
        at_once = max(1, min(int(model.steps_per_execution), steps // (_CALLS * self._scope.workers)))
        size = tf.constant(self._batch_size, tf.int64)
        model.reset_metrics()
        waiting: deque[_Call] = deque()
        done = sent = 0

        def finish() -> int:
            now = done + _finished(waiting.popleft())
            told.on_train_batch_end(now - 1)
            return now

        while sent < steps and not model.stop_training:
            count = min(at_once, steps - sent)
            told.on_train_batch_begin(sent)
            batch = _joined(list(itertools.islice(batches, count)))
            waiting.append(_Call(count, int(batch[1].shape[0]), coordinator.schedule(call, args=(*batch, size))))
            sent += count
            if len(waiting) == _AHEAD * self._scope.workers:
                done = finish()
        while waiting:
            done = finish()
        coordinator.join()
        return {name: float(value) for name, value in model.get_metrics_result().items()}


@dataclass(frozen=True)
class _Call:
    """What was handed to a worker.

    Attributes:
        steps: batches.
        rows: of all of them.
        answer: of the worker, as soon as it has trained on them.
    """

    steps: int
    rows: int
    answer: Any


def _finished(call: _Call) -> int:
    """Waits for a worker; the number of batches."""
    reported = int(call.answer.fetch())
    if reported != call.rows:
        raise SatisficeError(
            "a worker", "trained on other rows than it was sent", expected=f"{call.rows:,} rows", got=reported
        )
    return call.steps


def _call(model: Any, spec: Any) -> Any:
    """What a worker is asked for: to train on some rows, batch by batch; it answers how many they were."""
    features, label = spec

    @tf.function(input_signature=[features, label, tf.TensorSpec([], tf.int64)])
    def train(features: Mapping[str, Any], label: Any, batch_size: Any) -> Any:
        rows = tf.shape(label, tf.int64)[0]
        for start in tf.range(0, rows, batch_size):
            one = {name: rows_of[start : start + batch_size] for name, rows_of in features.items()}
            model.distribute_strategy.run(model.train_step, args=((one, label[start : start + batch_size]),))
        return rows

    return train


def _joined(batches: list[Any]) -> Any:
    return batches[0] if len(batches) == 1 else tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
