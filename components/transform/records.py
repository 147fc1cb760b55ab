"""Examples on disk as the tensors that a preprocessing function is given, in batches, without Python per row."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord

from components import progress
from components.transform.operations import UnsupportedError
from schemas.errors import DataError, shorten

__all__ = ["ROWS_FILE", "Parser", "batches", "check_rows", "not_transformed", "program"]

ROWS_FILE = "rows.json"
"""In the folder of the transform graph: the number of rows of each split, as ExampleGen said it."""


_READ_BUFFER_BYTES = 8 << 20
_BATCH_BYTES = 8 << 20
_SAMPLED_ROWS = 64
_TRACED = "(most recent call last)"
_NODES = re.compile(r"\[\[\{\{.*?\}\}\]\]|\{\{.*?\}\}|\[Op:[^\]]*\]")


class Parser:
    """How serialized tf.Examples become tensors, by the data schema.

    Attributes:
        schema: the data schema.
        specs: what a preprocessing function is given of each feature (`tf.TypeSpec`), as stock tf.Transform gives it.
    """

    def __init__(self, schema: Any, payload: str = "FORMAT_TF_EXAMPLE") -> None:
        """Take the schema, and the name of the `PayloadFormat` of the records.

        Raises:
            UnsupportedError: the records are no tf.Examples, or TensorFlow's parser would give other tensors than
                tf.Transform's.
        """
        if payload != "FORMAT_TF_EXAMPLE":
            raise UnsupportedError(f"the examples have the format {payload}")
        adapter = TFExampleRecord("", schema=schema, telemetry_descriptors=["Transform"]).TensorAdapter()
        self.schema = schema
        self.specs: dict[str, tf.TypeSpec] = dict(adapter.OriginalTypeSpecs())
        self._features = schema_utils.schema_as_feature_spec(schema).feature_spec
        self._check()

    def parse(self, serialized: tf.Tensor, columns: Collection[str]) -> dict[str, Any]:
        """The tensors of some of the features: `[rows, ...]` each, dense, sparse or ragged."""
        wanted = {name: feature for name, feature in self._features.items() if name in columns}
        return dict(tf.io.parse_example(serialized, wanted)) if wanted else {}

    def _check(self) -> None:
        parse = tf.function(lambda serialized: self.parse(serialized, self._features), autograph=False)
        given = parse.get_concrete_function(tf.TensorSpec([None], tf.string)).structured_outputs
        for name, spec in self.specs.items():
            if name not in given or tf.type_spec_from_value(given[name]) != spec:
                raise UnsupportedError(f"the feature {name!r} has a representation of its own: {spec}")


def program(function: Callable[[tf.Tensor], dict[str, Any]]) -> Any:
    """A function from serialized examples `[rows]` to tensors by name, traced once for all files that it is to read."""
    traced = tf.function(lambda serialized: (tf.shape(serialized)[0], function(serialized)), autograph=False)
    return traced.get_concrete_function(tf.TensorSpec([None], tf.string))


def batches(files: Sequence[str], program: Any, rows: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a program gives for batches of examples, in the order of files and records.

    Args:
        files: TFRecords, gzipped where the name ends in `.gz`.
        program: made by `program`; it runs within TensorFlow, on several batches at a time.
        rows: of each batch; fewer where they would make more than some megabytes.

    Yields:
        The number of rows, and the program's eager tensors by name.

    Raises:
        DataError: a record is no example of the schema, or the function fails on it.
    """
    run = tf.autograph.experimental.do_not_convert(program)
    for file in files:
        records = _records(file).batch(_fitting(file, rows))
        iterator = iter(records.map(run, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2))
        while True:
            try:
                count, tensors = next(iterator)
            except StopIteration:
                break
            except tf.errors.OpError as error:
                raise not_transformed(file, error) from error
            progress.advance(int(count))
            yield int(count), tensors


def not_transformed(where: str, error: Exception) -> DataError:
    """The fault of rows on which TensorFlow failed, in its own words without the stack and the names of graph nodes."""
    message = str(getattr(error, "message", error)).strip()
    told = message.rpartition("\n\n")[2] if _TRACED in message else message
    return DataError(
        where,
        f"cannot be transformed: {shorten(' '.join(_NODES.sub('', told).split()), 400)}",
        remedy="Compare the data with the schema, and see whether preprocessing_fn can take every row.",
    )


def check_rows(expected: int, tensors: Mapping[str, Any]) -> None:
    """The served model answers row by row: a transformed feature has one value, or list of values, for each row.

    Raises:
        DataError: where one has more or fewer.
    """
    for name, tensor in tensors.items():
        rows = tensor.shape[0] if tensor.shape.rank else None
        if rows != expected:
            raise DataError(
                f"transformed feature {name!r}",
                f"has {'no' if rows is None else rows} rows for a batch of {expected}",
                expected="one for each row",
                remedy="Let preprocessing_fn neither drop nor add rows; a constant is repeated with tf.fill.",
            )


def _fitting(file: str, rows: int) -> int:
    """How many rows of a file, by the size of its first records, make a batch of some megabytes; no more than `rows`."""
    sizes = [len(record) for record in itertools.islice(_records(file).as_numpy_iterator(), _SAMPLED_ROWS)]
    return max(1, min(rows, _BATCH_BYTES * len(sizes) // sum(sizes))) if sum(sizes) else rows


def _records(file: str) -> Any:
    compression = "GZIP" if file.endswith(".gz") else ""
    return tf.data.TFRecordDataset([file], compression, buffer_size=_READ_BUFFER_BYTES)
