"""The rows of a split as the model is trained on them: read as columns or as examples, transformed, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.example_gen.sidecar import read_columns
from components.trainer.blocks import Arrays, Blocks, Collector
from components.trainer.inputs import Layout
from components.trainer.preprocessing import Preprocessing
from components.transform.records import ROWS_FILE, batches, check_rows, not_transformed, program
from schemas.errors import DataError

__all__ = ["Reader", "Split", "rows_stated"]

_BATCH_ROWS = 8192
_Item = TypeVar("_Item")
_NUMPY = {tf.int64: np.int64, tf.float32: np.float32}


@dataclass(frozen=True)
class Split:
    """The rows of a split, and what was found on the way.

    Attributes:
        blocks: the rows, in the order of the examples.
        lowest, highest: label, None where there are no rows.
    """

    blocks: Blocks
    lowest: Any
    highest: Any

    def check(self, label: str, split: str) -> None:
        """Makes sure that there is something to learn.

        Raises:
            DataError: where there are no rows, or every row has the same label.
        """
        rows = self.blocks.rows
        if rows == 0:
            raise DataError(f"split {split!r}", "holds no rows", remedy="Add data, or change data.splits.")
        if self.lowest == self.highest:
            raise DataError(
                f"label {label!r}",
                f"has one class only: all {rows:,} rows of the {split} split hold {self.lowest}",
                expected="at least two different values",
                remedy="Check how preprocessing_fn makes the label, and whether the data holds both outcomes.",
            )


def rows_stated(transform_graph: str) -> dict[str, int]:
    """How many rows each split has, as far as ExampleGen said so: Transform writes it beside its graph."""
    file = Path(transform_graph, ROWS_FILE)
    return {str(name): int(rows) for name, rows in json.loads(file.read_text()).items()} if file.is_file() else {}


class Reader:
    """Reads the splits of raw examples through one transform graph."""

    def __init__(self, preprocessing: Preprocessing, layout: Layout, raw_spec: Mapping[str, Any]) -> None:
        """Take the transform graph, the layout of what it gives, and the parsing specification of the raw features."""
        self._preprocessing, self._layout = preprocessing, layout
        needed = preprocessing.inputs_of(layout.spec) | preprocessing.checked()
        self._spec = {name: form for name, form in raw_spec.items() if name in needed}
        self._by_columns = tf.function(
            self._transform,
            input_signature=[{name: _spec_of(form) for name, form in self._spec.items()}],
            autograph=False,
        )

    def read(self, patterns: Sequence[str], block_rows: int, budget_bytes: int, file: Path, rows: int | None) -> Split:
        """Reads and transforms a split.

        Args:
            patterns: of its files, `<artifact>/Split-<name>/*` each.
            block_rows: of the blocks in which the rows are read later.
            budget_bytes: what they may take in memory.
            file: takes them where that does not do.
            rows: their number, where it is known.

        Raises:
            DataError: the rows are more or fewer than `rows`, do not fit the schema, or cannot be transformed.
        """
        collector = Collector(budget_bytes, block_rows, file, rows)
        label = list(self._layout.spec).index(self._layout.label)
        lowest = highest = None
        for pattern in patterns:
            for arrays in self._arrays(pattern):
                collector.add(arrays)
                if len(arrays[label]):
                    low, high = arrays[label].min(), arrays[label].max()
                    lowest = low if lowest is None else min(lowest, low)
                    highest = high if highest is None else max(highest, high)
        blocks = collector.finish()
        if rows is not None and blocks.rows != rows:
            raise DataError(
                ", ".join(patterns),
                "does not give the rows that ExampleGen wrote",
                expected=f"{rows:,} rows",
                got=f"{blocks.rows:,}",
                remedy="Run with --from ExampleGen, which writes them anew.",
            )
        return Split(blocks, lowest, highest)

    def _arrays(self, pattern: str) -> Iterator[Arrays]:
        folder = Path(pattern).parent
        columns = read_columns(folder.parent, folder.name.removeprefix("Split-")) if self._are_columns() else None
        given = self._from_records(pattern) if columns is None else self._from_columns(columns, str(folder))
        for count, tensors in given:
            check_rows(count, tensors)
            yield tuple(tensors[name].numpy() for name in self._layout.spec)

    def _are_columns(self) -> bool:
        """Whether each raw feature has at most one value in a row, which is what columns can hold."""
        return all(
            isinstance(form, tf.io.VarLenFeature)
            or (
                isinstance(form, tf.io.FixedLenFeature) and list(form.shape) in ([], [1]) and form.default_value is None
            )
            for form in self._spec.values()
        )

    def _from_columns(self, columns: Iterator[pa.RecordBatch], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for rows, raw in _ahead(self._raw(columns, where)):
            try:
                yield rows, self._by_columns(raw)
            except tf.errors.OpError as error:
                raise not_transformed(where, error) from error

    def _raw(self, columns: Iterator[pa.RecordBatch], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of rows of each batch, and its raw features as parsing would give them."""
        for batch in columns:
            parsed = {name: _as_parsed(_column(batch, name), name, form, where) for name, form in self._spec.items()}
            yield batch.num_rows, parsed

    def _from_records(self, pattern: str) -> Iterator[tuple[int, dict[str, Any]]]:
        parse_and_transform = program(lambda serialized: self._transform(tf.io.parse_example(serialized, self._spec)))
        return batches(sorted(tf.io.gfile.glob(pattern)), parse_and_transform, _BATCH_ROWS)

    def _transform(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        return self._layout.as_columns(self._preprocessing(raw, list(self._layout.spec)))


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, each made by another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _spec_of(form: Any) -> tf.TypeSpec:
    if isinstance(form, tf.io.VarLenFeature):
        return tf.SparseTensorSpec([None, None], form.dtype)
    return tf.TensorSpec([None, *form.shape], form.dtype)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else pa.nulls(batch.num_rows)


def _as_parsed(column: pa.Array, name: str, form: Any, where: str) -> Any:
    """A column in the form that parsing tf.Examples would give: dense, or sparse where values may be missing."""
    values = _tensor(column.drop_null(), form.dtype)
    if isinstance(form, tf.io.VarLenFeature):
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        width = 1 if len(rows) else 0  # as the parser says it
        return tf.SparseTensor(np.stack([rows, np.zeros_like(rows)], axis=1), values, [len(column), width])
    if column.null_count:
        raise DataError(
            f"{where}: feature {name!r}",
            f"is missing in {column.null_count:,} of {len(column):,} rows",
            expected="a value in each row, as the schema says",
            remedy="Correct the data, or let the schema say that the value may be missing (value_count, presence).",
        )
    return tf.reshape(values, [-1, *form.shape])


def _tensor(values: pa.Array, dtype: tf.DType) -> tf.Tensor:
    if dtype != tf.string:
        return tf.constant(values.to_numpy(zero_copy_only=False).astype(_NUMPY[dtype], copy=False))
    words = values.cast(pa.large_binary()).dictionary_encode()
    distinct = tf.constant(words.dictionary.to_pylist(), tf.string)
    return tf.gather(distinct, words.indices.to_numpy(zero_copy_only=False))
