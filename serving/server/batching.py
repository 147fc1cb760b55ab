"""Requests that arrive together run together: batching as TF Serving does it, with its parameters and its refusals."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.server.status import Refusal
from serving.server.tensors import Array

__all__ = ["Batcher", "BatchingParameters", "Run", "examples_in"]

Run = Callable[[Mapping[str, Array]], list[Array]]
"""Runs one batch: inputs by alias, outputs in order."""


@dataclass(frozen=True)
class BatchingParameters:
    """TF Serving's batching parameters, with its defaults but for the last but one.

    Attributes:
        max_batch_size: examples in a batch.
        batch_timeout_micros: how long the first request of a batch waits for others.
        max_enqueued_batches: batches that may wait; more are refused.
        num_batch_threads: batches that run at the same time. One, where TF Serving takes as many as there are cores:
            beside Python's lock a second one makes batches smaller and little faster.
        allowed_batch_sizes: sizes to which batches are padded, ascending; the last is `max_batch_size`. None for any.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 1
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what TF Serving refuses.

        Raises:
            ValueError: a value cannot be.
        """
        if self.max_batch_size < 1 or self.num_batch_threads < 1 or self.max_enqueued_batches < 1:
            raise ValueError("max_batch_size, num_batch_threads and max_enqueued_batches must be at least 1")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError("allowed_batch_sizes entries must be ascending, and the last one max_batch_size")


@dataclass(eq=False)
class _Task:
    """A request that waits.

    Attributes:
        leads: its thread has a batch to run.
        outputs, error: what became of it, once it is `done`.
    """

    inputs: Mapping[str, Array]
    size: int
    since: float
    leads: bool = False
    done: bool = False
    outputs: list[Array] = field(default_factory=list)
    error: BaseException | None = None
    _asleep: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._asleep.acquire()

    def wait(self, seconds: float = -1) -> None:
        """Until it is woken; a plain lock costs a fraction of an event."""
        self._asleep.acquire(timeout=seconds)

    def wake(self) -> None:
        """Lets its thread look again at what there is to do; whoever calls it holds the lock of the queue."""
        if self._asleep.locked():
            self._asleep.release()


class Batcher:
    """A queue for one signature with one set of outputs.

    It has no threads of its own. A request that finds a free place runs the batch in its own thread, so that one that is
    alone waits for nobody; whoever ends a batch hands its place on to a request that has gathered meanwhile.
    """

    def __init__(self, run: Run, parameters: BatchingParameters, on_batch: Callable[[int, float], None]) -> None:
        """Makes it.

        Args:
            run: a batch.
            parameters: of batching; `num_batch_threads` is the number of places.
            on_batch: is told the number of examples and how long the oldest request waited, in microseconds.
        """
        self._run = run
        self._parameters = parameters
        self._on_batch = on_batch
        self._queue: deque[_Task] = deque()
        self._waiting = 0
        self._running = 0
        self._gathering: list[_Task] = []
        self._changed = threading.Condition(threading.Lock())
        self._closed = False

    def submit(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Runs inputs as part of a batch, and waits for the outputs that belong to them.

        Raises:
            Refusal: they are no batch, or too many, or the queue is full; or what the model says.
        """
        task = _Task(inputs, _size_of(inputs), time.monotonic())
        if task.size > self._parameters.max_batch_size:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"Task size {task.size} is larger than maximum input batch size {self._parameters.max_batch_size}",
            )
        self._enqueue(task)
        while task.leads or not task.done:  # a place that was handed on is used, or handed on again
            if task.leads:
                self._lead(task)
            else:
                task.wait()
        if task.error is not None:
            raise task.error
        return task.outputs

    def close(self) -> None:
        """Takes no more, and waits for what runs."""
        with self._changed:
            self._closed = True
            for leader in self._gathering:
                leader.wake()
            self._changed.wait_for(lambda: not self._running)

    def _enqueue(self, task: _Task) -> None:
        with self._changed:
            if self._closed:
                raise Refusal("UNAVAILABLE", "the model is being unloaded")
            room = self._parameters.max_enqueued_batches * self._parameters.max_batch_size
            if self._waiting + task.size > room:
                raise Refusal("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
            self._queue.append(task)
            self._waiting += task.size
            if self._running < self._parameters.num_batch_threads:
                self._running += 1
                task.leads = True
            if self._waiting >= self._parameters.max_batch_size:
                for leader in self._gathering:
                    leader.wake()

    def _lead(self, leader: _Task) -> None:
        """Runs one batch from the head of the queue, whoever is in it, and hands the place on."""
        with self._changed:
            self._gather(leader)
            batch = self._taken()  # nothing where another leader took all, this one's task too
        if batch:
            self._on_batch(sum(task.size for task in batch), (time.monotonic() - batch[0].since) * 1e6)
            self._answer(batch)
        with self._changed:
            leader.leads = False
            heir = next((task for task in self._queue if not task.leads), None)
            if heir is None:
                self._running -= 1
                self._changed.notify_all()
            else:
                heir.leads = True
                heir.wake()

    def _answer(self, tasks: Sequence[_Task]) -> None:
        try:
            outputs = self._outputs(tasks)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            if len(tasks) == 1:
                self._finish(tasks, [[]], error)
                return
            for task in tasks:  # one bad request must not fail its neighbours
                self._answer([task])
        else:
            self._finish(tasks, outputs)

    def _finish(
        self, tasks: Sequence[_Task], outputs: Sequence[list[Array]], error: BaseException | None = None
    ) -> None:
        with self._changed:
            for task, own in zip(tasks, outputs, strict=True):
                task.outputs, task.error, task.done = own, error, True
                task.wake()

    def _gather(self, leader: _Task) -> None:
        """Waits for the batch to fill, for as long as its first request may wait; the lock is free meanwhile."""
        if not self._parameters.batch_timeout_micros:
            return
        while self._queue and self._waiting < self._parameters.max_batch_size and not self._closed:
            left = self._queue[0].since + self._parameters.batch_timeout_micros / 1e6 - time.monotonic()
            if left <= 0:
                return
            self._gathering.append(leader)
            self._changed.release()
            try:
                leader.wait(left)
            finally:
                self._changed.acquire()
                self._gathering.remove(leader)

    def _taken(self) -> list[_Task]:
        batch: list[_Task] = []
        size = 0
        while self._queue and self._fits(batch, size):
            batch.append(self._queue.popleft())
            size += batch[-1].size
        self._waiting -= size
        return batch

    def _fits(self, batch: Sequence[_Task], size: int) -> bool:
        candidate = self._queue[0]
        if not batch:
            return True
        if size + candidate.size > self._parameters.max_batch_size:
            return False
        return _alike(batch[0].inputs, candidate.inputs)

    def _outputs(self, tasks: Sequence[_Task]) -> list[list[Array]]:
        padded = self._padded_size(sum(task.size for task in tasks))
        inputs = {alias: _together([task.inputs[alias] for task in tasks], padded) for alias in tasks[0].inputs}
        outputs = self._run(inputs)
        for values in outputs:
            if values.ndim == 0 or len(values) != padded:
                raise Refusal(
                    "FAILED_PRECONDITION",
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors",
                )
        ends = np.cumsum([task.size for task in tasks])
        starts = [0, *ends[:-1].tolist()]
        return [[values[start:end] for values in outputs] for start, end in zip(starts, ends.tolist(), strict=True)]

    def _padded_size(self, size: int) -> int:
        return next((allowed for allowed in self._parameters.allowed_batch_sizes if allowed >= size), size)


def _together(parts: Sequence[Array], rows: int) -> Array:
    """The rows of all parts below each other, copied once; what is left of `rows` repeats the first one."""
    if len(parts) == 1 and len(parts[0]) == rows:
        return parts[0]
    whole = np.empty((rows, *parts[0].shape[1:]), parts[0].dtype)
    end = 0
    for part in parts:
        whole[end : end + len(part)] = part
        end += len(part)
    whole[end:] = whole[:1]
    return whole


def _size_of(inputs: Mapping[str, Array]) -> int:
    sizes = {len(values) if values.ndim else None for values in inputs.values()}
    if len(sizes) != 1 or None in sizes:
        raise Refusal(
            "INVALID_ARGUMENT", "Batching session Run() input tensors must have equal 0th-dimension size, of at least 1"
        )
    size = sizes.pop()
    assert size is not None
    if size == 0:
        raise Refusal("INVALID_ARGUMENT", "Batching session Run() input tensors must have at least one row")
    return size


def _alike(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(
        values.shape[1:] == other[alias].shape[1:] and values.dtype == other[alias].dtype
        for alias, values in one.items()
    )


def examples_in(inputs: Mapping[str, Array]) -> int:
    """Rows of a request: the first dimension, 1 where there is none."""
    return max((math.prod(values.shape[:1]) for values in inputs.values()), default=1)
