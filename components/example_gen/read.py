"""Rows of CSV and Parquet files as Arrow record batches whose types follow from the schema, never from a block.

Memory is flat in the number of rows: 16 MiB of a CSV file, or 65,536 rows of a Parquet file, are held at a time. What
is wrong with a file is said in one message; the line is looked for only once something is wrong (`csv_faults`).
"""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from components.example_gen.columns import ColumnType
from components.example_gen.csv_faults import NulByteError, find_fault, find_torn_quote
from schemas.errors import BadValueError, DataError, MissingColumnError, close_match, shorten

__all__ = ["column_names", "find_files", "infer_columns", "read_batches"]

BLOCK_BYTES = 16 << 20
BATCH_ROWS = 65_536

# Numbers of type FLOAT are parsed in double precision, then rounded once to the float32 that a tf.Example holds.
_PARSED = {ColumnType.INT: pa.int64(), ColumnType.FLOAT: pa.float64(), ColumnType.BYTES: pa.large_string()}
_BLANK = " \t"  # what the CSV reader ignores around a number


# --- which files ------------------------------------------------------------------------------------------------------


def find_files(pattern: str) -> list[Path]:
    """The files that match a glob pattern (`*`, `?`, `[..]`, `**`), sorted by path.

    Raises:
        DataError: none matches, or one of them cannot be opened.
    """
    files = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if not os.path.isdir(match))
    if not files:
        if os.path.isdir(pattern):
            remedy = f"It is a folder: set data.source.path to {os.path.join(pattern, '*')!r} or the like."
        else:
            remedy = "Check data.source.path; a relative path is relative to the configuration file."
        raise DataError(pattern, "matches no file", remedy=remedy)
    for file in files:
        with _open(file):
            pass
    return files


def _open(file: Path) -> io.FileIO:
    try:
        return file.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> DataError:
    problem = f"cannot be read ({error.strerror or error})"
    return DataError(str(file), problem, remedy="Check that it exists and may be read, or narrow data.source.path.")


# --- rows -------------------------------------------------------------------------------------------------------------


def read_batches(
    file: Path,
    format: str,
    columns: Mapping[str, ColumnType],
    extras: Mapping[str, ColumnType] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of one file, in its order, a block at a time.

    Args:
        file: a CSV file (UTF-8, comma-separated, one header) or a Parquet file without nested columns.
        format: `csv` or `parquet`.
        columns: the columns that the file must have, matched by name, whatever their order in the file.
        extras: types of columns that the schema lacks, as `infer_columns` gives them; those that it does not name are
            inferred from this file.

    Yields:
        Batches of one Arrow schema: `columns` in their order, then the file's other columns in the file's order. INT is
        int64, FLOAT float32, BYTES large_binary; a missing value is null. In CSV an empty cell is missing.

    Raises:
        MissingColumnError: one of `columns` is not in the file.
        BadValueError: a value does not parse as its column's type.
        DataError: the file has no rows, is no UTF-8, has a row of another length, or is damaged.
    """
    names = column_names(file, format)
    _check_names(file, names, columns)
    others = [name for name in names if name not in columns]
    known = {name: kind for name, kind in (extras or {}).items() if name in others}
    if len(known) < len(others):
        known |= infer_columns([file], format, [*columns, *known])
    types = {**columns, **{name: known[name] for name in others}}
    rows = 0
    for batch in _csv_batches(file, types) if format == "csv" else _parquet_batches(file, types):
        rows += batch.num_rows
        yield batch
    if not rows:
        raise _no_rows(file)


def column_names(file: Path, format: str) -> list[str]:
    """The file's column names, in its order.

    Raises:
        DataError: the file cannot be read, or has no header or no flat columns.
    """
    if format == "csv":
        return _csv_header(file)
    if format != "parquet":
        raise DataError(str(file), "is of an unknown format", expected="csv or parquet", got=format)
    with _parquet(file) as source:
        _check_flat(file, source.schema_arrow)
        return list(source.schema_arrow.names)


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
        raise _missing_column(file, names, missing)


def _missing_column(file: Path, names: Sequence[str], missing: Sequence[str]) -> MissingColumnError:
    listed = ", ".join(repr(name) for name in missing[:5]) + (", …" if len(missing) > 5 else "")
    problem = f"lacks the column{'s' if len(missing) > 1 else ''} {listed} of the schema"
    guess = close_match(missing[0], names)
    if guess:
        remedy = f"Did you mean its column {guess!r}? Rename it in the file or in the schema."
    elif len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        remedy = "Its header is one cell: separate the cells by commas."
    else:
        remedy = "Add the column to the file, or take it out of the schema."
    return MissingColumnError(str(file), problem, got=f"the columns {', '.join(names)}", remedy=remedy)


def _no_rows(file: Path) -> DataError:
    return DataError(
        str(file), "has no rows", remedy="Fill the file, or narrow data.source.path so that it is left out."
    )


# --- CSV --------------------------------------------------------------------------------------------------------------


class _WatchedFile(io.RawIOBase):
    """The bytes of a file, read once: refuses NUL bytes and counts lines as they go by."""

    def __init__(self, file: Path) -> None:
        self._raw = _open(file)
        self._newlines = 0
        self._last = b"\n"

    @property
    def lines(self) -> int:
        """Lines seen so far; a last one without a newline counts."""
        return self._newlines + (self._last != b"\n")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._raw.read(size) or b""
        if b"\0" in block:
            raise NulByteError
        if block:
            self._newlines += block.count(b"\n")
            self._last = block[-1:]
        return block

    def close(self) -> None:
        self._raw.close()
        super().close()


def _csv_header(file: Path) -> list[str]:
    with _open(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        try:
            header = next((row for row in csv.reader(text, strict=True) if row), None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise find_fault(file, {}, str(error)) from error
    if header is None:
        raise _no_rows(file)
    return header


def _csv_batches(file: Path, types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    """All of the file's rows, typed; empty batches are left out."""
    for batch in _csv_blocks(file, {name: _PARSED[kind] for name, kind in types.items()}, types):
        columns = [_narrow(batch.column(name), kind) for name, kind in types.items()]
        if any(column is None for column in columns):
            raise find_fault(file, types, "a number is too large for float32")
        yield pa.RecordBatch.from_arrays(columns, names=list(types))


def _csv_blocks(
    file: Path, parsed: Mapping[str, pa.DataType], types: Mapping[str, ColumnType]
) -> Iterator[pa.RecordBatch]:
    """The columns `parsed` of a CSV file, block by block; faults are looked for with `types`."""
    rows = 0
    with _WatchedFile(file) as source:
        try:
            with _open_csv(source, parsed) as reader:
                for batch in reader:
                    rows += batch.num_rows
                    if batch.num_rows:
                        yield batch
        except (pa.ArrowInvalid, UnicodeDecodeError, NulByteError) as error:
            raise find_fault(file, types, str(error)) from error
        except OSError as error:
            raise _unreadable(file, error) from error
        lines = source.lines
    if lines != rows + 1:
        # Some value holds a newline, or there are blank lines. A quote that is never closed looks just the same, and
        # has swallowed rows without any complaint.
        fault = find_torn_quote(file)
        if fault:
            raise fault


def _open_csv(source: _WatchedFile, parsed: Mapping[str, pa.DataType]) -> pa.csv.CSVStreamingReader:
    return pa.csv.open_csv(
        source,
        read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict(parsed),
            include_columns=list(parsed),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _narrow(column: pa.Array, kind: ColumnType) -> pa.Array | None:
    """The column as a tf.Example can hold it; None where a finite number would become infinite."""
    if kind is ColumnType.BYTES:
        return column.cast(pa.large_binary())
    if kind is ColumnType.INT:
        return column
    narrow = column.cast(pa.float32(), safe=False)
    return narrow if pc.sum(pc.is_inf(narrow)) == pc.sum(pc.is_inf(column)) else None


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(file: Path) -> pa.parquet.ParquetFile:
    with _open(file):
        pass
    try:
        return pa.parquet.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "Check data.source.format, and write the file again if it is damaged."
        raise DataError(str(file), "is no readable Parquet file", got=str(error), remedy=remedy) from error


def _check_flat(file: Path, schema: pa.Schema) -> None:
    for field in schema:
        if pa.types.is_nested(field.type):
            problem = f"column {shorten(field.name)!r} is nested"
            remedy = "Write one column per value."
            raise DataError(str(file), problem, expected="one value per row", got=str(field.type), remedy=remedy)


def _parquet_batches(file: Path, types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    start = 0
    with _parquet(file) as source:
        batches = source.iter_batches(BATCH_ROWS, columns=list(types))
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(str(file), "is damaged", got=str(error), remedy="Write the file again.") from error
            if batch is None:
                return
            columns = [_retype(file, name, batch.column(name), kind, start) for name, kind in types.items()]
            yield pa.RecordBatch.from_arrays(columns, names=list(types))
            start += batch.num_rows


def _retype(file: Path, name: str, column: pa.Array, kind: ColumnType, start: int) -> pa.Array:
    """The column in the type of the schema. `start`: rows of the file before this batch."""
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
        return _narrow(column.cast(pa.float64(), safe=not pa.types.is_integer(column.type)), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


# --- columns that the schema lacks ------------------------------------------------------------------------------------


def infer_columns(files: Sequence[Path], format: str, known: Iterable[str]) -> dict[str, ColumnType]:
    """The types of the columns that are not among `known`, from all rows of all files.

    INT where every value is a whole number, FLOAT where every value is a number, else BYTES; BYTES too where no value
    is there. No type depends on the order of files or on where a block ends. Costs a pass over the files that have such
    columns, and nothing where none has.

    Raises:
        DataError: as `read_batches`.
    """
    skipped = set(known)
    found: dict[str, ColumnType | None] = {}
    for file in files:
        names = column_names(file, format)
        _check_names(file, names, ())
        extras = [name for name in names if name not in skipped]
        if extras:
            kinds = _infer_csv(file, extras) if format == "csv" else _infer_parquet(file, extras)
            for name, kind in kinds.items():
                found[name] = _wider(found.get(name), kind)
    return {name: kind or ColumnType.BYTES for name, kind in found.items()}


def _infer_csv(file: Path, names: Sequence[str]) -> dict[str, ColumnType | None]:
    kinds: dict[str, ColumnType | None] = dict.fromkeys(names)
    text = dict.fromkeys(names, ColumnType.BYTES)
    for batch in _csv_blocks(file, dict.fromkeys(names, pa.large_string()), text):
        for name in names:
            kinds[name] = _wider(kinds[name], _kind_of(batch.column(name)))
    return kinds


def _kind_of(text: pa.Array) -> ColumnType | None:
    """The narrowest type that all values parse as; None where all are missing."""
    text = text.drop_null()
    if not len(text):
        return None
    trimmed = pc.utf8_trim(text, _BLANK)
    for kind in (ColumnType.INT, ColumnType.FLOAT):
        try:
            if _narrow(trimmed.cast(_PARSED[kind]), kind) is not None:
                return kind
        except pa.ArrowInvalid:
            continue
    return ColumnType.BYTES


def _infer_parquet(file: Path, names: Sequence[str]) -> dict[str, ColumnType | None]:
    with _parquet(file) as source:
        return {name: _kind_of_type(source.schema_arrow.field(name).type) for name in names}


def _kind_of_type(kind: pa.DataType) -> ColumnType | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return ColumnType.INT
    return ColumnType.FLOAT if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else ColumnType.BYTES


def _wider(one: ColumnType | None, other: ColumnType | None) -> ColumnType | None:
    """The narrower of the types that holds the values of both; None is a column without values."""
    order = [None, ColumnType.INT, ColumnType.FLOAT, ColumnType.BYTES]
    return max(one, other, key=order.index)
