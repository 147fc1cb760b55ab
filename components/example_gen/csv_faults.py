"""What is wrong with a CSV file, and where: a slow second pass, taken only once the fast one has failed.

Lines are the file's physical ones, counted from 1, header and newlines inside quotes included; a row that spans several
is named by its first.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.columns import ColumnType
from schemas.errors import BadValueError, DataError, shorten

__all__ = ["NulByteError", "find_fault", "find_torn_quote"]

_CHUNK = 4096
_Row = tuple[int, list[str]]


class NulByteError(Exception):
    """A NUL byte went by."""


def find_fault(file: Path, types: Mapping[str, ColumnType], cause: str) -> DataError:
    """The first thing wrong with a file that the fast reader refused.

    Args:
        file: the CSV file.
        types: the type of each column that was read.
        cause: the fast reader's own words, used where this pass finds nothing.

    Returns:
        BadValueError with line, column, value and expected type; or DataError for an encoding, a NUL byte, a torn quote
        or a row of another length.
    """
    return (
        _undecodable(file)
        or _first_bad_row(file, types)
        or find_torn_quote(file)
        or DataError(str(file), "cannot be read as CSV", got=cause, remedy="Check data.source.format and the file.")
    )


def find_torn_quote(file: Path) -> DataError | None:
    """The fault of a quote that has swallowed a line's end by mistake; None where every quoted value is whole."""
    for item in _rows(file):
        if isinstance(item, DataError):
            return item
    return None


def _undecodable(file: Path) -> DataError | None:
    """The fault of the first line that is no UTF-8 or holds a NUL byte, or None."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if b"\0" in line:
                remedy = "Save the file as plain UTF-8 text: it may be compressed, damaged, or UTF-16."
                return DataError(str(file), f"line {number} holds a NUL byte", remedy=remedy)
            try:
                line.decode()
            except UnicodeDecodeError as error:
                got = f"the byte 0x{line[error.start]:02X} at position {error.start + 1} of the line"
                remedy = "Save the file as UTF-8: it may be Latin-1 or Windows-1252."
                return DataError(str(file), f"line {number} is not UTF-8", got=got, remedy=remedy)
    return None


def _first_bad_row(file: Path, types: Mapping[str, ColumnType]) -> DataError | None:
    rows = _rows(file)
    header = next(rows, None)
    if not isinstance(header, tuple):
        return header
    names, chunk = header[1], list[_Row]()
    for item in rows:
        ends = isinstance(item, DataError) or len(item[1]) != len(names)
        if not ends:
            chunk.append(item)  # type: ignore[arg-type]  # a row, as ends is false
        if ends or len(chunk) == _CHUNK:
            fault = _bad_value(file, names, types, chunk)
            if fault or ends:
                return fault or (item if isinstance(item, DataError) else _wrong_length(file, names, item))
            chunk.clear()
    return _bad_value(file, names, types, chunk)


def _wrong_length(file: Path, names: Sequence[str], row: _Row) -> DataError:
    line, values = row
    return DataError(
        str(file),
        f"line {line} has another number of columns than the header",
        expected=f"{len(names)} columns",
        got=f"{len(values)}: {shorten(','.join(values), 60)}",
        remedy="Mend the line; a value with a comma in it needs double quotes.",
    )


def _bad_value(
    file: Path, names: Sequence[str], types: Mapping[str, ColumnType], rows: Sequence[_Row]
) -> BadValueError | None:
    """The fault of the first row with a value that does not parse, or None."""
    first: tuple[int, int] | None = None
    for column, name in enumerate(names):
        row = _first_unparsable([values[column].strip(" \t") for _, values in rows], types.get(name))
        if row is not None and (first is None or row < first[0]):
            first = (row, column)
    if first is None:
        return None
    line, values = rows[first[0]]
    name, kind = names[first[1]], types[names[first[1]]]
    remedy = "Mend the value, leave the cell empty if it is missing, or change the column's type in the schema."
    problem = f"line {line}, column {shorten(name)!r}: the value does not parse"
    return BadValueError(
        str(file), problem, expected=kind.expected, got=repr(shorten(values[first[1]], 80)), remedy=remedy
    )


def _first_unparsable(texts: Sequence[str], kind: ColumnType | None) -> int | None:
    """The index of the first value that is no number of this kind; None where all are, or need not be."""
    if kind not in (ColumnType.INT, ColumnType.FLOAT) or _parse(texts, kind):
        return None
    return next((i for i, text in enumerate(texts) if not _parse([text], kind)), None)


def _parse(texts: Sequence[str], kind: ColumnType) -> bool:
    column = pa.array([text or None for text in texts], pa.large_string())
    try:
        parsed = column.cast(pa.int64() if kind is ColumnType.INT else pa.float64())
    except pa.ArrowInvalid:
        return False
    narrow = parsed.cast(pa.float32(), safe=False)
    return kind is ColumnType.INT or pc.sum(pc.is_inf(narrow)) == pc.sum(pc.is_inf(parsed))


def _rows(file: Path) -> Iterator[_Row | DataError]:
    """The rows that are not blank, each with the line that it starts on; in a row's place, the fault of a torn quote."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text, _long_fields():
        reader = csv.reader(text, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # Text after a closing quote is odd and harmless within one line: the fast reader takes it as it stands.
                if reader.line_num > start or "end of data" in str(error):
                    yield _torn_quote(file, start, reader.line_num)
                continue
            if row:
                yield start, row


def _torn_quote(file: Path, start: int, end: int) -> DataError:
    return DataError(
        str(file),
        f"line {start}: a double quote is opened and not closed properly",
        expected="a closing quote before the next comma or the end of the line",
        got=f"text up to line {end}",
        remedy='Close the quote; a quote within a quoted value is written twice ("").',
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module read fields of any length: a torn quote makes one of the rest of the file."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
