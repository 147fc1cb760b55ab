"""Rows of CSV files (UTF-8, comma-separated, one header), a block of 2 MiB at a time, or of more where a row is longer.

What is wrong with a file is said in one message; the line is looked for only once something is wrong (`csv_faults`).
"""

from __future__ import annotations

import csv
import io
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from components.example_gen.casting import narrow
from components.example_gen.columns import ColumnType, wider
from components.example_gen.csv_faults import NulByteError, find_fault, find_torn_quote
from components.example_gen.source_files import no_rows, open_file, unreadable

__all__ = ["batches", "column_names", "has_rows", "kinds"]

_BLOCK_BYTES = (2 << 20, 16 << 20)
"""Tried in this order, as a row has to fit into a block. Arrow reads 32 blocks ahead of whoever takes them."""
_TOO_LONG = ("straddling object", "cannot infer number of columns")
"""What Arrow says of a row that does not, and of a header."""

# Numbers of type FLOAT are parsed in double precision, then rounded once to the float32 that a tf.Example holds.
_PARSED = {ColumnType.INT: pa.int64(), ColumnType.FLOAT: pa.float64(), ColumnType.BYTES: pa.large_string()}
_RELEASED_WITHIN_S = 10.0
_BLANK = " \t"  # what the CSV reader ignores around a number


class _WatchedFile(io.RawIOBase):
    """The bytes of a file, read once: refuses NUL bytes and counts lines as they go by."""

    def __init__(self, file: Path) -> None:
        self._raw = open_file(file)
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


def column_names(file: Path) -> list[str]:
    """The header's cells, in their order."""
    with open_file(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        try:
            header = next((row for row in csv.reader(text, strict=True) if row), None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise find_fault(file, {}, str(error)) from error
    if header is None:
        raise no_rows(file)
    return header


def has_rows(file: Path) -> bool:
    """Whether anything but blank lines follows the header; a file that is no CSV has some."""
    with open_file(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
        try:
            rows = (row for row in csv.reader(text) if row)
            return bool(next(rows, None) and next(rows, None))
        except csv.Error:
            return True


def batches(file: Path, types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    """All of the file's rows, typed; empty batches are left out.

    Raises:
        BadValueError: a value does not parse as its column's type.
        DataError: the file is no UTF-8, has a row of another length, or is damaged.
    """
    for batch in _blocks(file, {name: _PARSED[kind] for name, kind in types.items()}, types):
        columns = [narrow(batch.column(name), kind) for name, kind in types.items()]
        if any(column is None for column in columns):
            raise find_fault(file, types, "a number is too large for float32")
        yield pa.RecordBatch.from_arrays(columns, names=list(types))


class _RowTooLongError(Exception):
    """A row does not fit into a block."""


def _blocks(file: Path, parsed: Mapping[str, pa.DataType], types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    """The columns `parsed` of a CSV file, block by block; faults are looked for with `types`."""
    handed_on = 0
    for block_bytes in _BLOCK_BYTES:
        skipped = handed_on
        try:
            for batch in _blocks_of(file, parsed, types, block_bytes):
                new = batch.slice(min(skipped, batch.num_rows))
                skipped -= batch.num_rows - new.num_rows
                handed_on += new.num_rows
                if new.num_rows:
                    yield new
        except _RowTooLongError:
            continue
        return


def _blocks_of(
    file: Path, parsed: Mapping[str, pa.DataType], types: Mapping[str, ColumnType], block_bytes: int
) -> Iterator[pa.RecordBatch]:
    rows = 0
    with _WatchedFile(file) as source:
        held, reader = sys.getrefcount(source), None
        try:
            reader = pa.csv.open_csv(source, **_options(parsed, block_bytes))
            for batch in reader:
                rows += batch.num_rows
                yield batch
        except (pa.ArrowInvalid, UnicodeDecodeError, NulByteError) as error:
            traceback.clear_frames(error.__traceback__)  # what `read` raises holds the file, and so nobody would let go
            if any(words in str(error) for words in _TOO_LONG) and block_bytes < _BLOCK_BYTES[-1]:
                raise _RowTooLongError from error
            raise find_fault(file, types, str(error)) from error
        except OSError as error:
            traceback.clear_frames(error.__traceback__)
            raise unreadable(file, error) from error
        finally:
            del reader
            until = time.monotonic() + _RELEASED_WITHIN_S
            while sys.getrefcount(source) > held and time.monotonic() < until:
                time.sleep(0.0005)  # Arrow's threads read ahead: one that lets go while the interpreter ends aborts it
        lines = source.lines
    if lines != rows + 1:
        # Some value holds a newline, or there are blank lines. A quote that is never closed looks just the same, and
        # has swallowed rows without any complaint.
        fault = find_torn_quote(file)
        if fault:
            raise fault


def _options(parsed: Mapping[str, pa.DataType], block_bytes: int) -> dict[str, Any]:
    return {
        "read_options": pa.csv.ReadOptions(block_size=block_bytes),
        "parse_options": pa.csv.ParseOptions(newlines_in_values=True),
        "convert_options": pa.csv.ConvertOptions(
            column_types=dict(parsed),
            include_columns=list(parsed),
            null_values=[""],
            strings_can_be_null=True,
        ),
    }


def kinds(file: Path, names: Sequence[str]) -> dict[str, ColumnType | None]:
    """The narrowest type that all values of some columns parse as; None for one without values. Reads the file."""
    found: dict[str, ColumnType | None] = dict.fromkeys(names)
    text = dict.fromkeys(names, ColumnType.BYTES)
    for batch in _blocks(file, dict.fromkeys(names, pa.large_string()), text):
        for name in names:
            found[name] = wider(found[name], _kind_of(batch.column(name)))
    return found


def _kind_of(text: pa.Array) -> ColumnType | None:
    """The narrowest type that all values parse as; None where all are missing."""
    text = text.drop_null()
    if not len(text):
        return None
    trimmed = pc.utf8_trim(text, _BLANK)
    for kind in (ColumnType.INT, ColumnType.FLOAT):
        try:
            if narrow(trimmed.cast(_PARSED[kind]), kind) is not None:
                return kind
        except pa.ArrowInvalid:
            continue
    return ColumnType.BYTES
