"""Rows of TFRecord files of tf.Examples, plain or gzipped, told apart by the magic of gzip.

A feature holds one value or none; an empty list counts as missing. TensorFlow reads the records and checks their CRCs,
tfx_bsl decodes them; both are imported when records are read. Which record is at fault is looked for only once one is.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.columns import ColumnType, wider
from components.example_gen.source_files import missing_columns, open_file, unreadable
from schemas.errors import BadValueError, DataError, shorten

__all__ = ["batches", "column_names", "has_rows", "kinds"]

_BLOCK_BYTES = 16 << 20
_BLOCK_ROWS = 8192
_SAMPLED_ROWS = 64
_READ_BUFFER_BYTES = 8 << 20
_FRAME_BYTES = 16  # length, its CRC, and the CRC of the data
_GZIP_MAGIC = b"\x1f\x8b"

_ARROW = {ColumnType.INT: pa.int64(), ColumnType.FLOAT: pa.float32(), ColumnType.BYTES: pa.large_binary()}
_KIND = {arrow: kind for kind, arrow in _ARROW.items()}
_LIST = {ColumnType.INT: "int64_list", ColumnType.FLOAT: "float_list", ColumnType.BYTES: "bytes_list"}


def column_names(file: Path) -> list[str]:
    """The features of the file's first records, sorted: later ones may have others."""
    records = next(_blocks(file), [])
    return sorted(_decoded(file, records, {}, 0)) if records else []


def has_rows(file: Path) -> bool:
    """Whether there is a record."""
    return next(_blocks(file), None) is not None


def kinds(file: Path) -> dict[str, ColumnType | None]:
    """What the records say of each feature; None for one without values. Reads the file."""
    found: dict[str, ColumnType | None] = {}
    start = 0
    for records in _blocks(file):
        for name, column in _decoded(file, records, {}, start).items():
            found[name] = wider(found.get(name), column and _KIND[column.type])
        start += len(records)
    return found


def batches(
    file: Path, columns: Mapping[str, ColumnType], extras: Mapping[str, ColumnType]
) -> Iterator[pa.RecordBatch]:
    """The rows of a file.

    Args:
        file: of the records.
        columns: what the file must have; each is in every batch.
        extras: types of others, which are in the batches of those records that have them. A feature that neither names
            has the type that it first has in the file.

    Raises:
        MissingColumnError: no record has one of `columns`.
        BadValueError: a feature is of another type, or has several values; names the record, counted from 1.
        DataError: a record is damaged, cut off, or no tf.Example.
    """
    known = {**columns, **extras}
    seen: set[str] = set()
    start = 0
    for records in _blocks(file):
        decoded = _decoded(file, records, known, start)
        seen.update(decoded)
        found = {name: column for name, column in decoded.items() if column is not None}
        known |= {name: _KIND[column.type] for name, column in found.items()}
        missing = {name: pa.nulls(len(records), _ARROW[kind]) for name, kind in columns.items() if name not in found}
        others = sorted(set(found) - set(columns))
        names = [*columns, *others]
        yield pa.RecordBatch.from_arrays([(found | missing)[name] for name in names], names=names)
        start += len(records)
    absent = [name for name in columns if name not in seen]
    if start and absent:
        raise missing_columns(file, sorted(seen), absent)


def _decoded(
    file: Path, records: Sequence[bytes], known: Mapping[str, ColumnType], start: int
) -> dict[str, pa.Array | None]:
    """The values of each feature that the records have, one per record; None for a feature that never has a value.

    Args:
        file: for messages.
        records: serialized.
        known: the types that features must have.
        start: records of the file before these.
    """
    try:
        lists = _decoder().DecodeBatch(list(records))
    except RuntimeError as error:
        raise _fault(file, records, known, start, str(error)) from error
    columns: dict[str, pa.Array | None] = {}
    for name, column in zip(lists.schema.names, lists.columns, strict=True):
        kind = _kind(column)
        columns[name] = None if kind is None else _values(column)
        fits = kind is None or (columns[name] is not None and kind is known.get(name, kind))
        if not fits:
            raise _fault(file, records, known, start, f"feature {name!r}")
    return columns


def _decoder() -> Any:
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    return ExamplesToRecordBatchDecoder()


def _kind(column: pa.Array) -> ColumnType | None:
    return None if pa.types.is_null(column.type) else _KIND[column.type.value_type]


def _values(column: pa.LargeListArray) -> pa.Array | None:
    """The one value of each list, null where it is missing or empty; None where a list holds several."""
    lengths = column.value_lengths().fill_null(0)
    if pc.max(lengths).as_py() > 1:
        return None
    present = lengths.to_numpy() == 1
    values = column.flatten()
    return values if present.all() else values.take(pa.array(np.cumsum(present) - 1, mask=~present))


def _fault(file: Path, records: Sequence[bytes], known: Mapping[str, ColumnType], start: int, cause: str) -> DataError:
    """The first thing wrong with records that could not be decoded together."""
    decoder, types = _decoder(), dict(known)
    for number, record in enumerate(records, start + 1):
        try:
            example = decoder.DecodeBatch([record])
        except RuntimeError as error:
            remedy = "Write tf.Examples (tf.train.Example), and nothing else, into the file."
            return DataError(str(file), f"record {number} is no tf.Example", got=str(error), remedy=remedy)
        for name, column in zip(example.schema.names, example.columns, strict=True):
            kind = _kind(column)
            if kind is None:
                continue
            expected = types.setdefault(name, kind)
            where = f"record {number}, feature {shorten(name)!r}"
            if kind is not expected:
                return BadValueError(
                    str(file),
                    f"{where}: has another type",
                    expected=f"{_LIST[expected]}, {expected.expected}",
                    got=_LIST[kind],
                    remedy="Write the feature in one type, that of the schema, into every record.",
                )
            if _values(column) is None:
                return BadValueError(
                    str(file),
                    f"{where}: holds several values",
                    expected="one value, or none",
                    got=f"{len(column[0])} values",
                    remedy="Write one feature per value.",
                )
    return DataError(str(file), "cannot be decoded", got=cause, remedy="Write the file again.")


# --- records ----------------------------------------------------------------------------------------------------------


def _blocks(file: Path) -> Iterator[list[bytes]]:
    """The records, some thousands at a time, some megabytes at most."""
    import tensorflow as tf

    compression = _compression(file)
    size = 0
    blocks = _records(file, compression).batch(_fitting(file, compression)).as_numpy_iterator()
    while True:
        try:
            block = next(blocks, None)
        except tf.errors.OpError as error:
            raise _damage(file, compression, error) from error
        if block is None:
            break
        records = block.tolist()
        size += sum(map(len, records)) + _FRAME_BYTES * len(records)
        yield records
    if compression and size % (1 << 32) != _gzipped_size(file):
        raise DataError(
            str(file),
            "holds more than its first gzip member, or is cut off",
            remedy="Write it as one gzip stream (tf.io.TFRecordWriter), or without compression.",
        )


def _records(file: Path, compression: str) -> Any:
    import tensorflow as tf

    return tf.data.TFRecordDataset([str(file)], compression, buffer_size=_READ_BUFFER_BYTES)


def _compression(file: Path) -> str:
    with open_file(file) as raw:
        try:
            return "GZIP" if raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC else ""
        except OSError as error:
            raise unreadable(file, error) from error


def _fitting(file: Path, compression: str) -> int:
    """How many records, by the size of the first ones, make a block."""
    import tensorflow as tf

    try:
        first = itertools.islice(_records(file, compression).as_numpy_iterator(), _SAMPLED_ROWS)
        sizes = [len(record) for record in first]
    except tf.errors.OpError as error:
        raise _damage(file, compression, error) from error
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES * len(sizes) // max(1, sum(sizes)))) if sizes else 1


def _gzipped_size(file: Path) -> int:
    """The size of the content of the last member, modulo 2**32, as it stands at the file's end."""
    with open_file(file) as raw:
        raw.seek(-4, 2)
        return int.from_bytes(raw.read(4), "little")


def _damage(file: Path, compression: str, error: Exception) -> DataError:
    """The fault of the record at which TensorFlow stopped reading."""
    import tensorflow as tf

    whole = 0
    try:
        for _ in _records(file, compression):
            whole += 1
    except tf.errors.OpError as first:
        error = first
    message = str(getattr(error, "message", error)).split("}} ", 1)[-1].partition(" [Op:")[0]
    remedy = "Copy or write the file again."
    if not whole and "even a TFRecord" in message:
        remedy = "Check data.source.format, and write the file again if it is damaged."
        return DataError(str(file), "is no TFRecord file, or its first record is damaged", got=message, remedy=remedy)
    state = "is cut off" if "truncated" in message else "is damaged"
    return DataError(str(file), f"record {whole + 1} {state}", got=message, remedy=remedy)
