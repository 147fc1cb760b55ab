"""The rows of each split once more, as columns, beside the tf.Examples: decoding Examples costs ten times what it costs
to read these.

The tf.Examples are the artifact's content, and whoever reads them only misses nothing. The columns lie in a folder of
their own, `columns/<split>-<part>.arrow` below the artifact's, as compressed Arrow IPC files; a part holds rows of one
Arrow schema. Imports neither TensorFlow nor tfx_bsl.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.ipc

__all__ = ["COLUMNS_FOLDER", "SplitColumns", "read_columns"]

COLUMNS_FOLDER = "columns"
_BATCH_ROWS = 65_536


class SplitColumns:
    """Writes the rows of each split; a context that closes the files. Holds about 65,536 rows per split at most."""

    def __init__(self, splits: Sequence[str], folder: Path) -> None:
        """Take the names of the splits, and the folder to write."""
        folder.mkdir(parents=True)
        self._splits = {name: _Parts(folder, name) for name in splits}

    def add(self, split: str, rows: pa.RecordBatch) -> None:
        """Take some rows of a split, in plain columns."""
        self._splits[split].add(rows)

    @staticmethod
    def parts(folder: Path, split: str) -> list[Path]:
        """The files of a split in a folder of columns, in the order of its rows."""
        return sorted(folder.glob(f"{glob.escape(split)}-[0-9][0-9][0-9][0-9][0-9].arrow"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for parts in self._splits.values():
            parts.close()


class _Parts:
    """The files of one split: a new one wherever the Arrow schema changes."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._count = 0
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._schema: pa.Schema | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        if self._schema is not None and not self._schema.equals(batch.schema):
            self.close()
        self._schema = batch.schema
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows >= _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Ends the current part."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.Table.from_batches(self._held).combine_chunks()
        if self._writer is None:
            path = self._folder / f"{self._name}-{self._count:05}.arrow"
            self._writer = pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
            self._count += 1
        self._writer.write_table(table)
        self._held, self._held_rows = [], 0


def read_columns(folder: Path, split: str) -> Iterator[pa.RecordBatch] | None:
    """The rows of a split, in the order of its records; None where no columns were written.

    Args:
        folder: of the Examples artifact.
        split: its name.

    Returns:
        Batches of plain columns (int64, float32, large_binary; a missing value is null), up to about 70,000 rows each.
    """
    parts = SplitColumns.parts(folder / COLUMNS_FOLDER, split)
    return _batches(parts) if parts else None


def _batches(parts: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pa.OSFile(str(part)) as source, pa.ipc.open_file(source) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
