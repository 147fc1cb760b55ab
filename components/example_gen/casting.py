"""Columns of files that carry types of their own (Parquet, Arrow), in the types of the schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.columns import ColumnType
from schemas.errors import BadValueError, DataError, shorten

__all__ = ["cast_batch", "check_flat", "kind_of_type", "narrow"]


def check_flat(file: Path, schema: pa.Schema) -> None:
    """Refuses columns that hold more than one value per row.

    Raises:
        DataError: with the first such column.
    """
    for field in schema:
        if pa.types.is_nested(field.type):
            problem = f"column {shorten(field.name)!r} is nested"
            remedy = "Write one column per value."
            raise DataError(str(file), problem, expected="one value per row", got=str(field.type), remedy=remedy)


def cast_batch(file: Path, batch: pa.RecordBatch, types: Mapping[str, ColumnType], start: int) -> pa.RecordBatch:
    """The columns of `types`, in their order and as the schema has them.

    Args:
        file: for messages.
        batch: rows of the file.
        types: by name.
        start: rows of the file before this batch.

    Raises:
        BadValueError: a value does not fit its column's type; names the row, counted from 1.
    """
    columns = [_retype(file, name, batch.column(name), kind, start) for name, kind in types.items()]
    return pa.RecordBatch.from_arrays(columns, names=list(types))


def _retype(file: Path, name: str, column: pa.Array, kind: ColumnType, start: int) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    result = _cast(column, kind)
    if result is not None:
        return result
    bad = next(i for i in range(len(column)) if _cast(column.slice(i, 1), kind) is None)
    raise BadValueError(
        str(file),
        f"row {start + bad + 1}, column {shorten(name)!r}: the value does not fit the schema's type",
        expected=kind.expected,
        got=f"{shorten(str(column[bad].as_py()))!r} ({column.type})",
        remedy="Mend the value, or change the column's type in the schema.",
    )


def _cast(column: pa.Array, kind: ColumnType) -> pa.Array | None:
    """The column as int64, float32 or large_binary; None where some value does not fit."""
    binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    try:
        if kind is ColumnType.BYTES:
            return column.cast(pa.large_binary()) if binary else column.cast(pa.large_string()).cast(pa.large_binary())
        if kind is ColumnType.INT:
            return column.cast(pa.int64())
        return narrow(column.cast(pa.float64(), safe=not pa.types.is_integer(column.type)), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def narrow(column: pa.Array, kind: ColumnType) -> pa.Array | None:
    """The column as a tf.Example can hold it; None where a finite number would become infinite."""
    if kind is ColumnType.BYTES:
        return column.cast(pa.large_binary())
    if kind is ColumnType.INT:
        return column
    single = column.cast(pa.float32(), safe=False)
    return single if pc.sum(pc.is_inf(single)) == pc.sum(pc.is_inf(column)) else None


def kind_of_type(kind: pa.DataType) -> ColumnType | None:
    """What a column of an Arrow type holds; None for the type of a column without values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return ColumnType.INT
    return ColumnType.FLOAT if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else ColumnType.BYTES
