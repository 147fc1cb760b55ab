"""Transformed rows as `tf.data` pipelines of `(features, label)`, and what is known of each feature."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.trainer.blocks import Arrays, Blocks, Window, window
from schemas.errors import DataError, close_match
from schemas.user_model import Feature

__all__ = ["VALIDATION_ROWS", "Layout", "as_column", "block_rows", "dataset", "layout_of", "steps_of"]

VALIDATION_ROWS = 1024
"""A batch of validation at least, which keeps no gradients."""

_BLOCK_BYTES = 1 << 20
_WINDOW_BYTES = 64 << 20
"""Rows that are mixed with each other; all of them, for a table of a million rows."""
_READY_BYTES = 8 << 20
"""Blocks that are made ready meanwhile: while they are used, the next window can be read."""
_PREFETCHED = 16
_TEXT_BYTES = 64


@dataclass(frozen=True)
class Layout:
    """How a transformed row is laid out.

    Attributes:
        spec: parsing specification of every transformed feature, the label among them.
        features: what the model sees, by name, without the label.
        label: name of the label.
    """

    spec: dict[str, Any]
    features: dict[str, Feature]
    label: str

    @property
    def row_bytes(self) -> int:
        """About what a row takes."""
        return sum(
            math.prod(form.shape) * (_TEXT_BYTES if form.dtype == tf.string else form.dtype.size)
            for form in self.spec.values()
        )

    def as_columns(self, transformed: Mapping[str, Any]) -> dict[str, Any]:
        """Transformed features as the model takes them, the label among them."""
        return {name: as_column(transformed[name]) for name in self.spec}

    def rows(self, arrays: Sequence[Any]) -> tuple[dict[str, Any], Any]:
        """Rows as the arrays of all features, in the order of `spec`: the features by name, and the label."""
        rows = {
            name: tf.ensure_shape(array, [None, *(form.shape or [1])])
            for array, (name, form) in zip(arrays, self.spec.items(), strict=True)
        }
        return {name: rows[name] for name in self.features}, rows[self.label]


def as_column(tensor: Any) -> Any:
    """A transformed feature as the model takes it: a scalar for each row becomes `[batch, 1]`."""
    return tf.expand_dims(tensor, -1) if tensor.shape.rank == 1 else tensor


def layout_of(transformed: Any, label: str) -> Layout:
    """Reads the layout from tf.Transform's output.

    Args:
        transformed: a `tft.TFTransformOutput`.
        label: name of the transformed feature that is the label.

    Raises:
        DataError: where there is no such label, it is text, no feature is beside it, or a feature is sparse.
    """
    spec = transformed.transformed_feature_spec()
    if label not in spec:
        raise DataError(
            f"label {label!r}",
            "is not among the transformed features",
            expected=f"one of {', '.join(sorted(spec))}",
            remedy=_did_you_mean(label, spec) + "Let preprocessing_fn return it, or correct model.label.",
        )
    if spec[label].dtype == tf.string:
        raise DataError(
            f"label {label!r}",
            "is text",
            expected="numbers",
            remedy="Let preprocessing_fn give the number of its class, from 0 (tft.compute_and_apply_vocabulary).",
        )
    for name, feature in spec.items():
        if not isinstance(feature, tf.io.FixedLenFeature):
            raise DataError(
                f"transformed feature {name!r}",
                "is sparse",
                expected="a dense tensor",
                got=type(feature).__name__,
                remedy="Make it dense in preprocessing_fn (tf.sparse.to_dense with a default).",
            )
    if len(spec) == 1:
        raise DataError("preprocessing_fn", f"returns nothing but the label {label!r}", expected="features beside it")
    features = {name: _feature(transformed, name, spec[name]) for name in sorted(spec) if name != label}
    return Layout(spec, features, label)


def block_rows(layout: Layout, batch_size: int) -> int:
    """Rows of the blocks in which a split is read: whole batches, about a megabyte of them."""
    return batch_size * max(1, round(_BLOCK_BYTES / (layout.row_bytes * batch_size)))


def steps_of(rows: int, batch_size: int, replicas: int = 1) -> int:
    """Batches of one pass over some rows, as `dataset` makes them.

    >>> steps_of(9, 4), steps_of(9, 4, replicas=2)
    (3, 2)
    """
    whole, rest = divmod(rows, batch_size)
    return whole + (1 if rest >= replicas or (rest and not whole) else 0)


def dataset(
    blocks: Blocks,
    layout: Layout,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    replicas: int = 1,
    epochs: range | None = None,
) -> tf.data.Dataset:
    """One pass over the rows of a split, or several; no Python but once for each block of about a megabyte.

    Of rows in a file, one window is in memory at a time.

    Args:
        blocks: the rows; the size of a block is a multiple of the batch size.
        layout: of the rows.
        batch_size: rows in each batch; the last one may be smaller.
        shuffle_seed: shuffles rows anew in every epoch, in an order that follows from the seed; None keeps their order.
        replicas: among which a batch is divided: what is left at the end and has not a row for each of them joins the
            batch before.
        epochs: the numbers of the epochs to yield, one after the other: the order of each follows from its number, so
            that a training that is taken up again sees what it would have seen. None is one pass, whose order is
            another one each time.

    Returns:
        Batches of `(features, label)`: feature name to `[batch, ...]`, and `[batch, ...]`. A pass that yields fewer or
        more batches than there are fails.
    """
    block_bytes = layout.row_bytes * blocks.block_rows
    in_window = _blocks_of_a_window(blocks, max(1, _WINDOW_BYTES // block_bytes), replicas)
    shuffled = None if shuffle_seed is None else _Shuffled(blocks, in_window, shuffle_seed)
    types = [form.dtype for form in layout.spec.values()]

    def read(epoch: Any, index: Any) -> Any:
        return shuffled.read(int(epoch), int(index)) if shuffled else blocks.read(np.array([int(index)]))

    def rows_of(epoch: tf.Tensor, index: tf.Tensor) -> tuple[dict[str, Any], Any]:
        return layout.rows(tf.numpy_function(read, [epoch, index], types))

    sizes = _sizes(blocks.rows, batch_size, replicas)
    ready = max(1, _READY_BYTES // block_bytes)
    numbers = _numbers(blocks.count, shuffle_seed, epochs)
    batches = numbers.map(rows_of).prefetch(ready).rebatch(sizes or [batch_size])
    passes = 1 if epochs is None else len(epochs)
    whole = tf.data.experimental.assert_cardinality(len(sizes) * passes)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.apply(whole).prefetch(_PREFETCHED).with_options(options)


class _Shuffled:
    """The rows of epochs in an order of their own, a block's worth at a time, of which the window before is let go."""

    def __init__(self, blocks: Blocks, in_window: int, seed: int) -> None:
        """Take the rows, the blocks of a window, and the seed."""
        self._blocks, self._in_window, self._seed = blocks, in_window, seed
        self._lock = threading.Lock()
        self._key: tuple[int, int] | None = None
        self._window: Window | None = None

    def read(self, epoch: int, index: int) -> Arrays:
        """As many rows as a block has, by their place in the epoch."""
        number, place = divmod(index, self._in_window)
        size = self._blocks.block_rows
        with self._lock:
            window = self._window_of(epoch, number)
            if place == self._in_window - 1 or index == self._blocks.count - 1:
                self._key = self._window = None
        return window.rows(place * size, (place + 1) * size)

    def _window_of(self, epoch: int, number: int) -> Window:
        if self._window is None or self._key != (epoch, number):
            self._key = self._window = None
            self._window = window(self._blocks, number, self._in_window, [self._seed, epoch])
            self._key = epoch, number
        return self._window


def _blocks_of_a_window(blocks: Blocks, most: int, replicas: int) -> int:
    """How many blocks are mixed: so many that too few rows for all replicas do not make up the last window alone."""
    if 0 < blocks.rows % blocks.block_rows < replicas:
        while blocks.count > 1 and (blocks.count - 1) % most == 0:
            most += 1
    return most


def _sizes(rows: int, batch_size: int, replicas: int) -> list[int]:
    """Rows of each batch of a pass.

    >>> _sizes(9, 4, 1), _sizes(9, 4, 2)
    ([4, 4, 1], [4, 5])
    """
    count = steps_of(rows, batch_size, replicas)
    return [batch_size] * (count - 1) + [rows - batch_size * (count - 1)] * min(count, 1)


def _numbers(count: int, shuffle_seed: int | None, epochs: range | None) -> tf.data.Dataset:
    """What to read, a block's worth at a time: the number that the order of its epoch follows from, and its place in that.

    All in one range where that can be: a data set within another is made anew by each, which costs tens of milliseconds.
    """
    if epochs is None and shuffle_seed is not None:
        numbers = tf.data.Dataset.random(shuffle_seed, rerandomize_each_iteration=True).take(1)
        return numbers.flat_map(lambda epoch: tf.data.Dataset.range(count).map(lambda index: (epoch, index)))
    first, stop = (epochs.start, epochs.stop) if epochs is not None else (0, 1)
    return tf.data.Dataset.range(first * count, stop * count).map(lambda number: (number // count, number % count))


def _feature(transformed: Any, name: str, spec: tf.io.FixedLenFeature) -> Feature:
    shape = tuple(int(size) for size in spec.shape) or (1,)
    cardinality = None
    if spec.dtype == tf.int64:
        domain = _int_domain(transformed.transformed_metadata.schema, name)
        cardinality = domain.max + 1 if domain is not None and domain.min >= 0 else None
    return Feature(name, spec.dtype.name, shape, cardinality)


def _int_domain(schema: Any, name: str) -> Any:
    for feature in schema.feature:
        if feature.name == name and feature.HasField("int_domain") and feature.int_domain.HasField("max"):
            return feature.int_domain
    return None


def _did_you_mean(word: str, words: Mapping[str, Any]) -> str:
    guess = close_match(word, words)
    return f"Did you mean {guess!r}? " if guess else ""
