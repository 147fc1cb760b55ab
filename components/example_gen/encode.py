"""Split rows as tf.Examples on disk, and as columns beside them: complete under their final name, or not there at all.

TensorFlow and tfx_bsl are imported when rows are written, not before.
"""

from __future__ import annotations

import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.example_gen.sidecar import COLUMNS_FOLDER, SplitColumns
from components.example_gen.split import split_of
from schemas.errors import DataError

__all__ = ["RECORDS_FILE", "Written", "count_records", "encode", "to_list_columns", "write_splits"]

# Without ".gz": TFX's readers tell by the name that the records are not compressed.
RECORDS_FILE = "data_tfrecord-00000-of-00001"
# Beside the `Split-*` folders, which readers glob, never in one of them.
_UNFINISHED = ".unfinished"
_ENCODED_ROWS = 8192


@dataclass(frozen=True)
class Written:
    """What went in and what came out.

    Attributes:
        rows_in: rows read.
        rows: records in the file of each split, counted on disk.
    """

    rows_in: int
    rows: Mapping[str, int]


def write_splits(batches: Iterable[pa.RecordBatch], weights: Mapping[str, int], folder: Path) -> Written:
    """Write each row into `Split-<name>/data_tfrecord-00000-of-00001` below `folder`, uncompressed.

    The same rows lie in `columns` as columns (`sidecar.read_columns`).

    Args:
        batches: rows as `read_batches` gives them.
        weights: the splits and their shares, as `split_of` takes them.
        folder: where the split folders go; what a killed run has left there is replaced.

    Raises:
        DataError: a split is empty, or the records on disk are not as many as the rows that came in. No split folder
            appears then.
    """
    unfinished = folder / _UNFINISHED
    for stale in (unfinished, folder / COLUMNS_FOLDER, *(_split_folder(folder, name) for name in weights)):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        rows_in = _write(batches, weights, unfinished)
        rows = {name: count_records(_split_folder(unfinished, name) / RECORDS_FILE) for name in weights}
        _check(rows_in, rows, folder)
        (unfinished / COLUMNS_FOLDER).rename(folder / COLUMNS_FOLDER)
        for name in weights:
            _split_folder(unfinished, name).rename(_split_folder(folder, name))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Written(sum(rows_in.values()), rows)


def _split_folder(folder: Path, name: str) -> Path:
    return folder / f"Split-{name}"


def _write(batches: Iterable[pa.RecordBatch], weights: Mapping[str, int], folder: Path) -> Counter[str]:
    """Write all rows; the number of rows that were meant for each split."""
    names = list(weights)
    meant: Counter[str] = Counter()
    with ExitStack() as stack:
        columns = stack.enter_context(SplitColumns(names, folder / COLUMNS_FOLDER))
        writers = [stack.enter_context(_writer(_split_folder(folder, name))) for name in names]
        for batch in _pieces(batches):
            splits = split_of(batch, weights)
            for writer, example in zip(np.array(writers, object)[splits], encode(batch), strict=True):
                writer.write(example)
            columns.add(batch, splits)
            counts = np.bincount(splits, minlength=len(names)).tolist()
            meant.update(dict(zip(names, counts, strict=True)))
    return meant


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches small enough that their encoded copies stay small."""
    for batch in batches:
        for start in range(0, batch.num_rows, _ENCODED_ROWS):
            yield batch.slice(start, _ENCODED_ROWS)


def _writer(folder: Path) -> Any:
    import tensorflow as tf

    folder.mkdir(parents=True)
    return tf.io.TFRecordWriter(str(folder / RECORDS_FILE))


def _check(meant: Mapping[str, int], rows: Mapping[str, int], folder: Path) -> None:
    total = sum(meant.values())
    short = [f"{name} {rows[name]} of {meant.get(name, 0)}" for name in rows if rows[name] != meant.get(name, 0)]
    if short:
        raise DataError(
            str(folder),
            "the records on disk are not the rows that were read",
            expected=f"{total} records",
            got=f"{sum(rows.values())} ({', '.join(short)})",
            remedy="Check that the disk is not full and run again.",
        )
    empty = [name for name, n in rows.items() if not n]
    if empty:
        raise DataError(
            "data.splits",
            f"no row falls into {' or '.join(empty)}: there are {total} rows, {_listed(rows)}",
            remedy="Add data, or give the split a larger share in data.splits.",
        )


def _listed(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{n} in {name}" for name, n in rows.items())


# --- rows to records --------------------------------------------------------------------------------------------------


def encode(batch: pa.RecordBatch) -> list[bytes]:
    """One serialized tf.Example per row; a missing value is a feature without a kind, as stock TFX writes it too.

    TensorFlow's parsers and TFDV take such a feature for a missing one, which an empty list is not.
    The order of features within the bytes is not stable: compare decoded examples, not bytes.
    """
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    if not batch.num_columns:
        return [b""] * batch.num_rows
    examples: list[bytes] = RecordBatchToExamplesEncoder().encode(to_list_columns(batch))
    return examples


def to_list_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with each value in a list of its own, as the encoder takes it.

    Columns become large_list<T> of the same length and name: [value] where a value is there, null where none is.
    """
    return pa.RecordBatch.from_arrays([_to_lists(column) for column in batch.columns], names=batch.schema.names)


def _to_lists(column: pa.Array) -> pa.LargeListArray:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(valid, out=offsets[1:])
    missing = pa.array(~valid) if column.null_count else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), column.drop_null(), mask=missing)


# --- records on disk --------------------------------------------------------------------------------------------------

_HEAD = struct.Struct("<Q4x")  # length of the data, its CRC
_TAIL = 4  # CRC of the data


def count_records(path: Path) -> int:
    """The number of records of an uncompressed TFRecord file, by its framing: the data is skipped, not checked.

    Raises:
        DataError: the file ends within a record.
    """
    size = path.stat().st_size
    records = offset = 0
    with path.open("rb", buffering=1 << 20) as file:
        while offset < size:
            head = file.read(_HEAD.size)
            end = offset + _HEAD.size + _HEAD.unpack(head)[0] + _TAIL if len(head) == _HEAD.size else size + 1
            if end > size:
                problem = f"ends within the record at byte {offset}"
                raise DataError(str(path), problem, remedy="Delete the folder and run again.")
            records, offset = records + 1, end
            file.seek(offset)
    return records
