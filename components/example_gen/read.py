"""Rows of CSV, Parquet, Arrow and TFRecord files as Arrow record batches whose types follow from the schema, never from a
block.

Memory is flat in the number of rows: a block of the file is held at a time. What is wrong with a file is said in one
message, with the line, row or record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from components.example_gen import arrow_files, csv_files, parquet_files, tfrecord_files
from components.example_gen.columns import ColumnType, wider
from components.example_gen.records import whole_records
from components.example_gen.source_files import Piece, missing_columns, no_rows, open_file
from schemas.errors import DataError, shorten

__all__ = [
    "FORMATS",
    "Kinds",
    "column_names",
    "has_rows",
    "infer_columns",
    "kinds_of",
    "merged_kinds",
    "pieces_of",
    "read_batches",
    "rows_about",
    "types_of",
]

_TABULAR: Mapping[str, ModuleType] = {"csv": csv_files, "parquet": parquet_files, "arrow": arrow_files}
"""Formats whose files say at once which columns they have."""
_READERS: Mapping[str, ModuleType] = {**_TABULAR, "tfrecord": tfrecord_files}
_SPLITTABLE: Mapping[str, ModuleType] = {"parquet": parquet_files, "arrow": arrow_files}
"""Formats that say where a row begins. In CSV a newline may stand within quotes, and a record tells only where the next is."""
Kinds = dict[str, ColumnType | None]
"""Column to the narrowest type that holds its values; None where it has none."""
FORMATS = tuple(_READERS)
"""What is read here, as `data.source.format` names it."""


_SAMPLED_BYTES = 1 << 20


def read_batches(
    file: Path,
    format: str,
    columns: Mapping[str, ColumnType],
    extras: Mapping[str, ColumnType] | None = None,
    piece: Piece | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of one file, in its order, a block at a time.

    Args:
        file: a CSV file (UTF-8, comma-separated, one header), a Parquet or Arrow IPC file without nested columns, or a
            TFRecord file of tf.Examples with one value per feature.
        format: one of `FORMATS`.
        columns: the columns that the file must have, matched by name, whatever their order in the file.
        extras: types of columns that the schema lacks, as `infer_columns` gives them; those that it does not name are
            inferred from this file.
        piece: of `pieces_of`; None for the whole file.

    Yields:
        Batches: `columns` in their order, then the file's other columns: in the file's order and all of one Arrow
        schema, or for TFRecords sorted and where there are any. INT is int64, FLOAT float32, BYTES large_binary; a
        missing value is null. In CSV an empty cell is missing.

    Raises:
        MissingColumnError: one of `columns` is not in the file.
        BadValueError: a value does not parse as its column's type.
        DataError: the file has no rows, is no UTF-8, has a row of another length, or is damaged.
    """
    rows = 0
    for batch in _batches(file, format, columns, extras or {}, piece):
        rows += batch.num_rows
        yield batch
    if not rows and piece is None:
        raise no_rows(file)


def _batches(
    file: Path,
    format: str,
    columns: Mapping[str, ColumnType],
    extras: Mapping[str, ColumnType],
    piece: Piece | None,
) -> Iterator[pa.RecordBatch]:
    found: Iterator[pa.RecordBatch]
    if _reader(file, format) is tfrecord_files:
        return tfrecord_files.batches(file, columns, extras)
    types = types_of(file, format, columns, extras)
    if format in _SPLITTABLE:
        found = _SPLITTABLE[format].batches(file, types, piece or Piece())
    else:
        found = csv_files.batches(file, types)
    return found


def types_of(
    file: Path, format: str, columns: Mapping[str, ColumnType], extras: Mapping[str, ColumnType]
) -> dict[str, ColumnType]:
    """The type of each column of a file that says which it has, those of the schema first.

    Raises:
        MissingColumnError: one of `columns` is not in the file.
        DataError: as `column_names`; or a column has no name, or another's.
    """
    names = column_names(file, format)
    _check_names(file, names, columns)
    others = [name for name in names if name not in columns]
    known = {name: kind for name, kind in extras.items() if name in others}
    if len(known) < len(others):
        known |= infer_columns([file], format, [*columns, *known])
    return {**columns, **{name: known[name] for name in others}}


def pieces_of(file: Path, format: str, rows: int) -> list[Piece]:
    """The parts in which a file can be read, of at least so many rows each but for the last.

    Runs of row groups of a Parquet file, and of record batches of an Arrow file; other files are one piece.

    Raises:
        DataError: the file cannot be read, or has no rows.
    """
    if not has_rows(file, format):
        raise no_rows(file)
    found: list[Piece] = _SPLITTABLE[format].pieces(file, rows) if format in _SPLITTABLE else [Piece()]
    return found


def column_names(file: Path, format: str) -> list[str]:
    """The file's column names, in its order; of TFRecords, those of the first records, sorted.

    Raises:
        DataError: the file cannot be read, or has no header or no flat columns.
    """
    names: list[str] = _reader(file, format).column_names(file)
    return names


def has_rows(file: Path, format: str) -> bool:
    """Whether a file has any rows, as far as can be told without reading it all.

    Raises:
        DataError: the file cannot be read.
    """
    return bool(_reader(file, format).has_rows(file))


def rows_about(file: Path, format: str) -> int | None:
    """About how many rows a file has, by its metadata or by how many its first bytes hold; None where neither tells.

    Raises:
        DataError: the file cannot be read.
    """
    if format == "parquet":
        return parquet_files.count_rows(file)
    if format not in ("csv", "tfrecord") or file.suffix == ".gz":
        return None
    with open_file(file) as source:
        head = source.read(_SAMPLED_BYTES)
    rows, end = (head.count(b"\n"), head.rfind(b"\n") + 1) if format == "csv" else whole_records(head, len(head))
    return round(rows * file.stat().st_size / end) if end else None


def _reader(file: Path, format: str) -> ModuleType:
    if format not in _READERS:
        raise DataError(str(file), "is of an unknown format", expected=" or ".join(FORMATS), got=format)
    return _READERS[format]


def _check_names(file: Path, names: Sequence[str], columns: Iterable[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        remedy = "Rename one of them in the file."
        raise DataError(str(file), f"has more than one column named {shorten(twice[0])!r}", remedy=remedy)
    if "" in names:
        problem = f"column {names.index('') + 1} has no name in the header"
        raise DataError(str(file), problem, remedy="Name it or leave it out (pandas: to_csv(..., index=False)).")
    missing = [name for name in columns if name not in names]
    if missing:
        raise missing_columns(file, names, missing)


def infer_columns(files: Sequence[Path], format: str, known: Iterable[str]) -> dict[str, ColumnType]:
    """The types of the columns that are not among `known`, from all rows of all files.

    INT where every value is a whole number, FLOAT where every value is a number, else BYTES; BYTES too where no value
    is there. No type depends on the order of files or on where a block ends. Costs a pass over the files that have such
    columns, and nothing where none has; TFRecords are read in any case.

    Raises:
        DataError: as `read_batches`.
    """
    skipped = set(known)
    return merged_kinds(kinds_of(file, format, skipped) for file in files)


def merged_kinds(kinds: Iterable[Kinds]) -> dict[str, ColumnType]:
    """The types of columns from what several files say of them."""
    found: dict[str, ColumnType | None] = {}
    for one in kinds:
        for name, kind in one.items():
            found[name] = wider(found.get(name), kind)
    return {name: kind or ColumnType.BYTES for name, kind in found.items()}


def kinds_of(file: Path, format: str, known: Iterable[str]) -> Kinds:
    """What one file says of the columns that are not among `known`; see `infer_columns`.

    Raises:
        DataError: as `read_batches`.
    """
    skipped = set(known)
    reader = _reader(file, format)
    if reader is tfrecord_files:
        return {name: kind for name, kind in tfrecord_files.kinds(file).items() if name not in skipped}
    names = column_names(file, format)
    _check_names(file, names, ())
    extras = [name for name in names if name not in skipped]
    return dict(reader.kinds(file, extras)) if extras else {}
