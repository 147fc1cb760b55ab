"""Transformed examples as `tf.data` pipelines of `(features, label)`, and what is known of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from schemas.errors import DataError, close_match
from schemas.user_model import Feature

__all__ = ["Layout", "Survey", "dataset", "layout_of", "survey"]

_READ_BUFFER_BYTES = 8 << 20
_SHUFFLE_ROWS = 100_000


@dataclass(frozen=True)
class Layout:
    """How a transformed example is laid out.

    Attributes:
        spec: parsing specification of every transformed feature, the label among them.
        features: what the model sees, by name, without the label.
        label: name of the label.
    """

    spec: dict[str, Any]
    features: dict[str, Feature]
    label: str

    def columns(self, parsed: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Parsed tensors as the model takes them: scalars become `[batch, 1]`."""
        shaped = {name: _at_least_2d(parsed[name]) for name in self.spec}
        return {name: shaped[name] for name in self.features}, shaped[self.label]


def layout_of(transformed: Any, label: str) -> Layout:
    """Reads the layout from tf.Transform's output.

    Args:
        transformed: a `tft.TFTransformOutput`.
        label: name of the transformed feature that is the label.

    Raises:
        DataError: where there is no such label, no feature beside it, or a feature is sparse.
    """
    spec = transformed.transformed_feature_spec()
    if label not in spec:
        raise DataError(
            f"label {label!r}",
            "is not among the transformed features",
            expected=f"one of {', '.join(sorted(spec))}",
            remedy=_did_you_mean(label, spec) + "Let preprocessing_fn return it, or correct model.label.",
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


def dataset(
    patterns: Sequence[str],
    layout: Layout,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    rows: int | None = None,
) -> tf.data.Dataset:
    """One pass over transformed examples.

    Args:
        patterns: of TFRecord files, gzipped where their names say so.
        layout: of the examples.
        batch_size: rows in each batch; the last one may be smaller.
        shuffle_seed: shuffles rows anew in every epoch, in an order that follows from the seed; None keeps file order.
        rows: their number, where it is known: a pass that yields fewer or more batches then fails.

    Returns:
        Batches of `(features, label)`: feature name to `[batch, …]`, and `[batch, …]`.
    """
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    compression = "GZIP" if files and files[0].endswith(".gz") else ""
    records: tf.data.Dataset = tf.data.TFRecordDataset(files, compression, buffer_size=_READ_BUFFER_BYTES)
    if shuffle_seed is not None:
        records = records.shuffle(_SHUFFLE_ROWS, seed=shuffle_seed, reshuffle_each_iteration=True)
    batches = records.batch(batch_size).map(
        lambda serialized: layout.columns(tf.io.parse_example(serialized, layout.spec)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if rows is not None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))
    return batches.prefetch(tf.data.AUTOTUNE)


@dataclass(frozen=True)
class Survey:
    """What one pass over a split found.

    Attributes:
        rows: their number.
        lowest, highest: label, None where there are no rows.
    """

    rows: int
    lowest: Any
    highest: Any

    def check(self, label: str, split: str) -> None:
        """Makes sure that there is something to learn.

        Raises:
            DataError: where there are no rows, or every row has the same label.
        """
        if self.rows == 0:
            raise DataError(f"split {split!r}", "holds no rows", remedy="Add data, or change data.splits.")
        if self.lowest == self.highest:
            raise DataError(
                f"label {label!r}",
                f"has one class only: all {self.rows:,} rows of the {split} split hold {self.lowest}",
                expected="at least two different values",
                remedy="Check how preprocessing_fn makes the label, and whether the data holds both outcomes.",
            )


def survey(examples: tf.data.Dataset) -> Survey:
    """Counts the rows of a data set and finds the range of its labels, in one pass."""
    rows, lowest, highest = 0, None, None
    for _, labels in examples:
        values = labels.numpy().reshape(-1)
        low, high = min(values), max(values)
        rows += int(labels.shape[0])
        lowest = low if lowest is None else min(lowest, low)
        highest = high if highest is None else max(highest, high)
    return Survey(rows, lowest, highest)


def _at_least_2d(tensor: Any) -> Any:
    return tf.expand_dims(tensor, -1) if tensor.shape.rank == 1 else tensor


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
