"""Rows of columns as serialized tf.Examples, and the number of those in a file. tfx_bsl is imported when rows are encoded."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.errors import DataError

__all__ = ["count_records", "encode", "to_list_columns"]


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
