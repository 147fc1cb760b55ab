"""Rows of Parquet files, 65,536 at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from components.example_gen.casting import cast_batch, check_flat, kind_of_type
from components.example_gen.columns import ColumnType
from components.example_gen.source_files import BATCH_ROWS, Piece, open_file
from schemas.errors import DataError

__all__ = ["batches", "column_names", "count_rows", "has_rows", "kinds", "pieces"]


def column_names(file: Path) -> list[str]:
    """The file's column names, in its order."""
    with _opened(file) as source:
        check_flat(file, source.schema_arrow)
        return list(source.schema_arrow.names)


def has_rows(file: Path) -> bool:
    """Whether there are any, by the file's own metadata."""
    return bool(count_rows(file))


def count_rows(file: Path) -> int:
    """Their number, by the file's own metadata."""
    with _opened(file) as source:
        return int(source.metadata.num_rows)


def kinds(file: Path, names: Sequence[str]) -> dict[str, ColumnType | None]:
    """What the file's own types say of some columns; None for one without values."""
    with _opened(file) as source:
        return {name: kind_of_type(source.schema_arrow.field(name).type) for name in names}


def pieces(file: Path, rows: int) -> list[Piece]:
    """Runs of whole row groups with at least so many rows each, but for the last."""
    found, start, held = [], 0, 0
    with _opened(file) as source:
        groups = source.metadata.num_row_groups
        for group in range(groups):
            held += source.metadata.row_group(group).num_rows
            if held >= rows or group == groups - 1:
                found.append(Piece(start, group + 1))
                start, held = group + 1, 0
    return found


def batches(file: Path, types: Mapping[str, ColumnType], piece: Piece) -> Iterator[pa.RecordBatch]:
    """The rows of a piece in the types of the schema.

    Raises:
        BadValueError: a value does not fit.
        DataError: the file is no Parquet file, or is damaged.
    """
    with _opened(file) as source:
        groups = list(range(piece.start, source.metadata.num_row_groups if piece.stop is None else piece.stop))
        start = sum(source.metadata.row_group(group).num_rows for group in range(piece.start))
        read = source.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(types))
        while True:
            try:
                batch = next(read, None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(str(file), "is damaged", got=str(error), remedy="Write the file again.") from error
            if batch is None:
                return
            yield cast_batch(file, batch, types, start)
            start += batch.num_rows


def _opened(file: Path) -> pa.parquet.ParquetFile:
    with open_file(file):
        pass
    try:
        return pa.parquet.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "Check data.source.format, and write the file again if it is damaged."
        raise DataError(str(file), "is no readable Parquet file", got=str(error), remedy=remedy) from error
