"""Rows of the train split by which a quantized file finds the ranges of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.tflite.convert import Source
from components.trainer.requests import MISSING_INT, request_name

__all__ = ["ROWS", "examples_in", "features_of", "raw_features_of", "sample"]

ROWS = 500
"""Each costs the converter a call. All rows would widen the ranges to the outliers, and coarsen what is common."""

Array = npt.NDArray[Any]

_BATCH_ROWS = 8192
_READ_BUFFER_BYTES = 8 << 20


def sample(files: Iterable[str | Path], rows: int = ROWS, seed: int = 0) -> Array:
    """Some serialized tf.Examples, each as likely as any other, wherever in the files it stands.

    Args:
        files: TFRecord files, gzipped where their names say so.
        rows: how many at most.
        seed: the same seed draws the same rows of the same files.

    Returns:
        `[rows]`, bytes.
    """
    random = np.random.default_rng(seed)
    kept: Array = np.zeros(0, object)
    lots: Array = np.zeros(0, np.float64)
    for batch in examples_in(sorted(str(file) for file in files)):
        kept = np.concatenate([kept, np.asarray(batch, object)])
        lots = np.concatenate([lots, random.random(len(batch))])
        if len(kept) > rows:
            chosen = np.sort(np.argpartition(lots, rows)[:rows])
            kept, lots = kept[chosen], lots[chosen]
    return kept


def features_of(source: Source, examples: Array) -> dict[str, Array]:
    """What a file made of `source` would be called with on some rows, by the names of its arguments.

    Args:
        source: whose SavedModel has the signature `transform_features`.
        examples: serialized tf.Examples.
    """
    if not len(examples):
        return {
            name: np.zeros((0, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for name, spec in source.arguments.items()
        }
    transform = source.model.signatures["transform_features"]
    transformed = transform(examples=tf.constant(list(examples)))
    return {name: transformed[name].numpy() for name in source.arguments}


def raw_features_of(arguments: Iterable[str], spec: Mapping[str, Any], examples: Array) -> dict[str, Array]:
    """The same for a file that takes raw features: one value for each row, or what says that it is missing.

    Args:
        arguments: names of the file's arguments.
        spec: parsing specification of the raw features: feature name to FixedLen or VarLen.
        examples: serialized tf.Examples.
    """
    wanted = set(arguments)
    forms = {feature: form for feature, form in spec.items() if request_name(feature) in wanted}
    parsed = tf.io.parse_example(tf.constant(list(examples), tf.string), forms)
    return {request_name(feature): _as_requested(parsed[feature]) for feature in forms}


def _as_requested(parsed: Any) -> Array:
    if isinstance(parsed, tf.SparseTensor):
        missing = np.nan if parsed.dtype.is_floating else "" if parsed.dtype == tf.string else MISSING_INT
        shape = tf.stack([parsed.dense_shape[0], tf.maximum(parsed.dense_shape[1], 1)])
        dense = tf.sparse.to_dense(tf.SparseTensor(parsed.indices, parsed.values, shape), missing)
        first: Array = dense[:, 0].numpy()
        return first
    values: Array = parsed.numpy()
    return values[:, 0] if values.shape[1:] == (1,) else values


def examples_in(files: Sequence[str]) -> Iterable[Array]:
    """The serialized tf.Examples of TFRecord files in batches, in their order."""
    for file in files:
        compression = "GZIP" if file.endswith(".gz") else ""
        records = tf.data.TFRecordDataset(file, compression, buffer_size=_READ_BUFFER_BYTES)
        yield from records.batch(_BATCH_ROWS).as_numpy_iterator()
