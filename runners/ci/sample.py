"""A sample of a source's rows as one Arrow file, the same for every side of a comparison. No TFX, no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from components.example_gen.columns import columns_of
from components.example_gen.fingerprint import content_fingerprint
from components.example_gen.read import infer_columns, read_batches
from components.example_gen.spans import files_of
from schemas.config import SourceConfig

__all__ = ["Sample", "write_sample"]

_SEED = 7


@dataclass(frozen=True)
class Sample:
    """What was written.

    Attributes:
        file: an Arrow IPC file.
        rows: in it.
        of: rows of the source.
        fingerprint: of the source's files.
    """

    file: Path
    rows: int
    of: int
    fingerprint: str


def write_sample(source: SourceConfig, schema: str, rows: int, file: Path) -> Sample:
    """Takes at most so many rows of a source, each as likely as any other, in the source's order.

    The same files give the same rows. Memory holds twice the sample and one block of a file.

    Args:
        source: the configuration's section.
        schema: the data schema in text format.
        rows: at most; 0 for all.
        file: to write.

    Raises:
        DataError: as `components.example_gen.read.read_batches`.
    """
    files = files_of(source)
    keep, total = _Smallest(rows), 0
    for batch in _batches(source.format, files, schema):
        total += batch.num_rows
        keep.add(batch)
    taken = keep.table()
    with pa.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_file(sink, taken.schema) as writer:
        writer.write_table(taken)
    return Sample(file, taken.num_rows, total, content_fingerprint(files))


def _batches(format: str, files: list[Path], schema: str) -> Iterator[pa.RecordBatch]:
    """All of one schema: the columns of the data schema, and of tables also the others."""
    columns = columns_of(schema)
    extras = {} if format == "tfrecord" else infer_columns(files, format, columns)
    names = [*columns, *extras]
    for file in files:
        for batch in read_batches(file, format, columns, extras):
            present = batch.schema.names
            arrays = [batch.column(name) if name in present else pa.nulls(batch.num_rows, _TEXT) for name in names]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


_TEXT = pa.large_binary()


class _Smallest:
    """The rows with the smallest of random keys, which are drawn in the order of the rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.random = np.random.default_rng(_SEED)
        self.parts: list[pa.Table] = []
        self.keys: list[np.ndarray] = []
        self.limit = np.inf

    def add(self, batch: pa.RecordBatch) -> None:
        keys = self.random.random(batch.num_rows)
        near = keys < self.limit
        self.parts.append(pa.Table.from_batches([batch]).filter(pa.array(near)))
        self.keys.append(keys[near])
        if self.rows and sum(map(len, self.keys)) > 2 * self.rows:
            self._cut()

    def table(self) -> pa.Table:
        self._cut()
        return self.parts[0]

    def _cut(self) -> None:
        keys, table = np.concatenate(self.keys), pa.concat_tables(self.parts, promote_options="permissive")
        if self.rows and len(keys) > self.rows:
            self.limit = float(np.partition(keys, self.rows)[self.rows])
            table, keys = table.filter(pa.array(keys < self.limit)), keys[keys < self.limit]
        self.parts, self.keys = [table.combine_chunks()], [keys]
