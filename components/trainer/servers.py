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

from components.trainer.loop import build_under
from components.trainer.scope import Scope
from components.trainer.tally import Step, Tally
from schemas.errors import SatisficeError

__all__ = ["Served"]

_AHEAD = 4
"""Calls for each worker that are on their way: enough that none waits for the chief, few enough to be held in memory."""


_CALLS = 2
"""For each worker in an epoch at least, so that all of them have something to do."""


class Served:
    """A way to train a model whose variables lie on parameter servers; see `loop.Way`."""

    def __init__(
        self, keras: ModuleType, model: Any, scope: Scope, batch_size: int, copy: Callable[[], Any], spec: Any
    ) -> None:
        """Take a model that was built in the scope, the rows of a step, what builds the same model beside it, and the spec
        of a batch.
        """
        self._model, self._scope, self._batch_size = model, scope, batch_size
        self._tally = None
        if keras.__name__ == "tf_keras":
            keras.backend.reset_uids()
        else:
            build_under(scope.strategy, model, spec)
            self._tally = Tally(keras, model)
            keras.backend.clear_session()  # the copy's metrics are named like the model's
        self._step = Step(model, model.train_step, self._tally)
        self._call = _call(model, spec, self._step, self._tally)
        self._beside = copy()

    def read(self, batches: tf.data.Dataset) -> Iterator[Any]:
        """As they are: the chief hands them out."""
        return iter(batches)

    def reset(self) -> None:
        """See `loop.Way`. What workers answer is added up here; the metrics' variables on the servers are not used."""
        if self._tally is None:
            self._model.reset_metrics()
        else:
            self._tally.reset()

    def train(self, batches: Iterator[Any], steps: int, told: Any, *, each: bool) -> dict[str, float]:
        """Hands out the batches of an epoch and waits for all of them; see `loop.Way`.

        Raises:
            SatisficeError: the workers report other rows than they were sent.
        """
        model, coordinator = self._model, self._scope.coordinator
        size = tf.constant(self._batch_size, tf.int64)
        waiting: deque[_Call] = deque()
        done = sent = 0

        def finish() -> int:
            now = done + self._finished(waiting.popleft())
            told.on_train_batch_end(now - 1, self._figures() if each else None)
            return now

        for count in _shares(steps, int(model.steps_per_execution), self._scope.workers):
            if model.stop_training:
                break
            told.on_train_batch_begin(sent)
            batch = _joined(list(itertools.islice(batches, count)))
            waiting.append(_Call(count, int(batch[1].shape[0]), coordinator.schedule(self._call, args=(*batch, size))))
            sent += count
            if len(waiting) == _AHEAD * self._scope.workers:
                done = finish()
        while waiting:
            done = finish()
        coordinator.join()
        return self._figures()

    def evaluate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """The chief's own reckoning, on a copy of the weights; see `loop.Way`."""
        self._beside.set_weights(self._model.get_weights())
        found: dict[str, float] = self._beside.evaluate(batches, verbose=0, return_dict=True)
        return found

    def _figures(self) -> dict[str, float]:
        """The metrics over the rows that are done."""
        if self._tally is not None:
            return self._tally.figures()
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def _finished(self, call: _Call) -> int:
        """Waits for a worker; the number of batches."""
        reported, added = call.answer.fetch()
        self._step.check()
        if int(reported) != call.rows:
            raise SatisficeError(
                "a worker",
                "trained on other rows than it was sent",
                expected=f"{call.rows:,} rows",
                got=int(reported),
            )
        if self._tally is not None:
            self._tally.add(added)
        return call.steps


def _shares(steps: int, most: int, workers: int) -> list[int]:
    """How many steps each call of an epoch makes: as many calls for each worker, `_CALLS` at least, the larger ones first.

    So none trains alone at the end while the others have nothing left to do.

    Args:
        steps: of the epoch.
        most: that a call may make.
        workers: that take the calls.

    >>> _shares(10, 10, 2), _shares(8, 10, 1), _shares(7, 2, 2), _shares(3, 10, 2), _shares(100, 10, 3)[:4]
    ([3, 3, 2, 2], [4, 4], [2, 2, 2, 1], [1, 1, 1], [9, 9, 9, 9])
    """
    rounds = max(_CALLS, -(-steps // (most * workers)))
    calls = min(steps, rounds * workers)
    size, more = divmod(steps, calls)
    return [size + (call < more) for call in range(calls)]


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


def _call(model: Any, spec: Any, step: Step, tally: Tally | None) -> Any:
    """What a worker is asked for: to train on some rows, batch by batch; it answers how many they were, and what their
    metrics have added up where these are not shared.
    """
    features, label = spec

    @tf.function(input_signature=[features, label, tf.TensorSpec([], tf.int64)])
    def train(features: Mapping[str, Any], label: Any, batch_size: Any) -> Any:
        rows = tf.shape(label, tf.int64)[0]
        added = tally.zeros() if tally is not None else []
        for start in tf.range(0, rows, batch_size):
            one = {name: rows_of[start : start + batch_size] for name, rows_of in features.items()}
            more = model.distribute_strategy.run(step.run, args=((one, label[start : start + batch_size]),))
            added = [total + new for total, new in zip(added, more, strict=True)]
        return rows, added

    return train


def _joined(batches: list[Any]) -> Any:
    return batches[0] if len(batches) == 1 else tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
