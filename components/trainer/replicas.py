"""Training in step: each replica takes its part of a batch, and all of them make the same update of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.loop import build_under
from components.trainer.tally import Tally, stepping
from schemas.errors import SatisficeError

__all__ = ["InStep"]

_ALIKE = 1e-3
"""How far the sums of a weight's parts may lie apart between replicas, relative: processors round differently."""


class InStep:
    """A way to train a Keras 3 model with replicas, in one process or in several; see `loop.Way`."""

    def __init__(self, keras: ModuleType, model: Any, strategy: Any, spec: Any) -> None:
        """Take Keras 3, a model that was compiled in the scope of the strategy, and the spec of a batch."""
        build_under(strategy, model, spec)
        _add_up_first(model.optimizer)
        self._model, self._strategy = model, strategy
        shared = isinstance(strategy, tf.distribute.experimental.CentralStorageStrategy)
        self._tally = Tally(keras, model) if shared else None
        self._train = _steps(strategy, model.train_step, self._tally)
        self._test = _steps(strategy, model.test_step, self._tally)
        self._held_out: tuple[tf.data.Dataset, Iterator[Any]] | None = None
        self._sums = _sums_of(model)

    def read(self, batches: tf.data.Dataset) -> Iterator[Any]:
        """Without an end to look for, replicas need not agree at each step on whether there is a batch left."""
        distributed: Iterator[Any] = iter(self._strategy.experimental_distribute_dataset(batches))
        return distributed

    def train(self, batches: Iterator[Any], steps: int, told: Any) -> dict[str, float]:
        """See `loop.Way`."""
        model, done = self._model, 0
        while done < steps and not model.stop_training:
            count = min(int(model.steps_per_execution), steps - done)
            told.on_train_batch_begin(done)
            self._count(self._train(batches, tf.constant(count)))
            done += count
            told.on_train_batch_end(done - 1)
        self._check_alike()
        return self._figures()

    def evaluate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """See `loop.Way`."""
        if self._held_out is None or self._held_out[0] is not batches:
            self._held_out = batches, self.read(batches.repeat())
        steps = int(batches.cardinality())
        if not steps:
            return {}
        self._model.reset_metrics()
        self._count(self._test(self._held_out[1], tf.constant(steps)))
        return self._figures()

    def _count(self, added: list[Any]) -> None:
        if self._tally is not None:
            self._tally.add([one.numpy() for one in added])
            self._tally.settle()

    def _figures(self) -> dict[str, float]:
        """The metrics of all replicas together, which takes all workers."""
        with self._strategy.scope():
            return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def _check_alike(self) -> None:
        """Makes sure that all replicas have the same weights."""
        each = np.asarray(self._strategy.gather(self._strategy.run(self._sums), axis=0))
        apart = np.max(np.abs(each - each[0]) / np.maximum(np.abs(each[0]), 1e-6), axis=1)
        if np.any(apart > _ALIKE):
            raise SatisficeError(
                "the replicas",
                "have not the same weights any more",
                expected=f"sums within {_ALIKE:.1%} of the first replica's",
                got=f"{np.max(apart):.1%} in replica {int(np.argmax(apart))}",
                remedy="A layer or an optimizer that updates a variable in each replica by itself needs an aggregation.",
            )


def _steps(strategy: Any, step: Callable[[Any], Any], tally: Tally | None) -> Any:
    """A function that makes steps on the next batches; it answers what they have added to the metrics apart."""
    answering = stepping(tf.autograph.experimental.do_not_convert(step), tally)

    @tf.function
    def run(batches: Iterator[Any], count: Any) -> list[Any]:
        added = tally.zeros() if tally is not None else []
        for _ in tf.range(count):
            more = strategy.run(answering, args=(next(batches),))
            added = [total + strategy.reduce("SUM", new, axis=None) for total, new in zip(added, more, strict=True)]
        return added

    return run


def _add_up_first(optimizer: Any) -> None:
    """Has the gradients of all replicas added up before anything is done with them.

    Keras 3 adds them up last: it would clip and accumulate each replica's part by itself, which is another update than that
    of one device; and a replica whose part overflows in float16 would leave out an update that the others wait for.
    """
    apply = optimizer.apply

    def apply_sum(grads: Any, trainable_variables: Any = None) -> Any:
        grads = list(grads)
        there = [grad for grad in grads if grad is not None]
        if there:
            replica = tf.distribute.get_replica_context()
            there = replica.all_reduce(tf.distribute.ReduceOp.SUM, there)
        sums = iter(there)
        return apply([None if grad is None else next(sums) for grad in grads], trainable_variables)

    optimizer.apply = apply_sum
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = list  # noqa: SLF001 - they are added up already; Keras has no switch for it


def _sums_of(model: Any) -> Any:
    """A function that each replica runs: for each of its weights, the sum of magnitudes and of squares; `[1, 2 * n]`."""

    @tf.function
    def sums() -> Any:
        values = [tf.cast(one.value, tf.float64) for one in model.trainable_variables]
        return tf.stack([f(one) for one in values for f in (_magnitude, _square)])[tf.newaxis]

    return sums


def _magnitude(value: Any) -> Any:
    return tf.reduce_sum(tf.abs(value))


def _square(value: Any) -> Any:
    return tf.reduce_sum(tf.square(value))
