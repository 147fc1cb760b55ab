"""Training in step: each replica takes its part of a batch, and all of them make the same update of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.trainer.loop import build_under
from components.trainer.tally import Step, Tally, figures_with
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
        self._steps = Step(model, model.train_step, self._tally), Step(model, model.test_step, self._tally)
        self._train, self._test = (_steps(strategy, step, self._tally) for step in self._steps)
        self._held_out: tuple[tf.data.Dataset, Iterator[Any]] | None = None
        self._keras, self._metrics = keras, [one for metric in model.metrics for one in metric.variables]
        self._each = _reading(strategy, self._metrics, [one.value for one in model.trainable_variables])

    def read(self, batches: tf.data.Dataset) -> Iterator[Any]:
        """Without an end to look for, replicas need not agree at each step on whether there is a batch left."""
        distributed: Iterator[Any] = iter(self._strategy.experimental_distribute_dataset(batches))
        return distributed

    def reset(self) -> None:
        """See `loop.Way`."""
        self._model.reset_metrics()

    def train(self, batches: Iterator[Any], steps: int, told: Any, *, each: bool) -> dict[str, float]:
        """See `loop.Way`."""
        model, done = self._model, 0
        while done < steps and not model.stop_training:
            count = min(int(model.steps_per_execution), steps - done)
            told.on_train_batch_begin(done)
            self._count(self._train(batches, tf.constant(count)))
            self._steps[0].check()
            done += count
            told.on_train_batch_end(done - 1, self._figures() if each else None)
        return self._figures(check=True)

    def evaluate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """See `loop.Way`."""
        if self._held_out is None or self._held_out[0] is not batches:
            self._held_out = batches, self.read(batches.repeat())
        steps = int(batches.cardinality())
        if not steps:
            return {}
        self._model.reset_metrics()
        self._count(self._test(self._held_out[1], tf.constant(steps)))
        self._steps[1].check()
        return self._figures()

    def _count(self, added: list[Any]) -> None:
        if self._tally is not None:
            self._tally.add([one.numpy() for one in added])
            self._tally.settle()

    def _figures(self, *, check: bool = False) -> dict[str, float]:
        """The metrics of all replicas together, which takes all workers.

        Args:
            check: whether to make sure as well that all replicas have the same weights.
        """
        if self._tally is not None:  # replicas share all variables
            return {name: float(value) for name, value in self._model.get_metrics_result().items()}
        each = np.asarray(self._each(weights=check))
        counts = [int(np.prod(one.shape)) for one in self._metrics]
        *metrics, sums = np.split(each, np.cumsum(counts), axis=1)
        if check:
            _check_alike(sums)
        values = [
            (variable, _together(variable, of_each).reshape(variable.shape))
            for variable, of_each in zip(self._metrics, metrics, strict=True)
        ]
        return figures_with(self._keras, self._model, values)


def _steps(strategy: Any, step: Step, tally: Tally | None) -> Any:
    """A function that makes steps on the next batches; it answers what they have added to the metrics apart."""
    answering = tf.autograph.experimental.do_not_convert(step.run)

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


def _reading(strategy: Any, metrics: Sequence[Any], weights: Sequence[Any]) -> Any:
    """A function that answers what each replica holds, in float64 and one collective operation.

    Args:
        strategy: of the replicas.
        metrics: variables of Keras 3, of which each replica has its own value.
        weights: variables that should be the same in all.

    Returns:
        `[replicas, n]`: the values of metrics; where `weights` is true, for each weight the sum of magnitudes and half
        that of squares.
    """

    def read(of_weights: bool) -> Any:
        held = [tf.reshape(tf.cast(one.value, tf.float64), [-1]) for one in metrics]
        if of_weights:
            sums = [sum_of(one) for one in weights for sum_of in (_magnitude, tf.nn.l2_loss)]
            held.append(tf.stack([tf.cast(one, tf.float64) for one in sums]))
        replica = tf.distribute.get_replica_context()
        here = tf.range(strategy.num_replicas_in_sync) == replica.replica_id_in_sync_group
        mine = tf.concat(held, 0)[tf.newaxis]
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(here[:, tf.newaxis], mine, tf.zeros_like(mine)))

    @tf.function
    def each(weights: bool) -> Any:
        return strategy.experimental_local_results(strategy.run(read, args=(weights,)))[0]

    return each


def _magnitude(value: Any) -> Any:
    return tf.reduce_sum(tf.abs(value))


def _together(variable: Any, of_each: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The value over all replicas of a metric's variable, from those of each: `[replicas, n]`."""
    kind = variable.aggregation if variable.synchronization == "on_read" else "only_first_replica"
    if kind not in _TOGETHER:
        raise SatisficeError(
            f"metric variable {variable.path}",
            "has another value in each replica, and nothing says how they come together",
            expected=f"aggregation: {' or '.join(_TOGETHER)}",
            got=kind,
            remedy="Name the aggregation where the metric makes the variable, or take training.strategy: one_device.",
        )
    return _TOGETHER[kind](of_each)


_TOGETHER: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "sum": lambda of_each: np.sum(of_each, axis=0),
    "mean": lambda of_each: np.mean(of_each, axis=0),
    "only_first_replica": lambda of_each: of_each[0],
}


def _check_alike(sums: npt.NDArray[np.float64]) -> None:
    """Makes sure that all replicas have the same weights, by the sums of each: `[replicas, n]`."""
    apart = np.max(np.abs(sums - sums[0]) / np.maximum(np.abs(sums[0]), 1e-6), axis=1)
    if np.any(apart > _ALIKE):
        raise SatisficeError(
            "the replicas",
            "have not the same weights any more",
            expected=f"sums within {_ALIKE:.1%} of the first replica's",
            got=f"{np.max(apart):.1%} in replica {int(np.argmax(apart))}",
            remedy="A layer or an optimizer that updates a variable in each replica by itself needs an aggregation.",
        )
