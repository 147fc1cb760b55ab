"""Rows of Arrow IPC files, of both kinds: the file format (Feather V2) and the stream format, told apart by their magic.

The file is mapped into memory: a record batch that is not compressed is read where it lies, however large it is.

Source: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from components.example_gen.casting import cast_batch, check_flat, kind_of_type
from components.example_gen.columns import ColumnType
from components.example_gen.source_files import BATCH_ROWS, Piece, open_file
from schemas.errors import DataError

__all__ = ["batches", "column_names", "has_rows", "kinds", "pieces"]

_FILE_MAGIC = b"ARROW1"
_CONTINUED = b"\xff\xff\xff\xff"
_STREAM_END = _CONTINUED + bytes(4)
_DAMAGE = (pa.ArrowException, OSError, EOFError)


def column_names(file: Path) -> list[str]:
    """The file's column names, in its order."""
    with _mapped(file) as source:
        schema = _reader(file, source).schema
        check_flat(file, schema)
        return list(schema.names)


def has_rows(file: Path) -> bool:
    """Whether one of its record batches has rows."""
    return any(batch.num_rows for _, batch in _record_batches(file, Piece()))


def kinds(file: Path, names: Sequence[str]) -> dict[str, ColumnType | None]:
    """What the file's own types say of some columns; None for one without values."""
    with _mapped(file) as source:
        schema = _reader(file, source).schema
        return {name: kind_of_type(schema.field(name).type) for name in names}


def pieces(file: Path, rows: int) -> list[Piece]:
    """Runs of whole record batches with at least so many rows each, but for the last. A stream is one piece."""
    if not _is_file(file):
        return [Piece()]
    found, start, held, index = [], 0, 0, 0
    for index, (_, batch) in enumerate(_record_batches(file, Piece()), 1):
        held += batch.num_rows
        if held >= rows:
            found.append(Piece(start, index))
            start, held = index, 0
    return [*found, Piece(start, index)] if held else found


def batches(file: Path, types: Mapping[str, ColumnType], piece: Piece) -> Iterator[pa.RecordBatch]:
    """The rows of a piece in the types of the schema, 65,536 at a time.

    Raises:
        BadValueError: a value does not fit.
        DataError: the file is no Arrow IPC file, is damaged, or ends before its end mark.
    """
    for start, whole in _record_batches(file, piece):
        batch = whole.select(list(types))
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise _damaged(file, error) from error
        for offset in range(0, batch.num_rows, BATCH_ROWS):
            yield cast_batch(file, batch.slice(offset, BATCH_ROWS), types, start + offset)


def _record_batches(file: Path, piece: Piece) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The record batches of a piece, each with the number of rows before it in the file."""
    start = 0
    with _mapped(file) as source:
        reader = _reader(file, source)
        is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
        index = 0
        while True:
            try:
                batch = _next(reader, index) if is_file else _next_of_stream(reader)
            except _DAMAGE as error:
                raise _damaged(file, error) from error
            if batch is None or (piece.stop is not None and index >= piece.stop):
                break
            if index >= piece.start:
                yield start, batch
            start += batch.num_rows
            index += 1
        if not is_file and not _is_ended(source):
            raise DataError(
                str(file),
                f"ends without the mark of a stream's end, after {start} rows",
                remedy="It may have been cut off: write it again, and close the writer.",
            )


def _next(reader: pa.ipc.RecordBatchFileReader, index: int) -> pa.RecordBatch | None:
    return reader.get_batch(index) if index < reader.num_record_batches else None


def _next_of_stream(reader: pa.ipc.RecordBatchStreamReader) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _is_ended(source: pa.MemoryMappedFile) -> bool:
    source.seek(max(0, source.size() - len(_STREAM_END)))
    return bool(source.read() == _STREAM_END)


def _is_file(file: Path) -> bool:
    with open_file(file) as raw:
        return raw.read(len(_FILE_MAGIC)) == _FILE_MAGIC


@contextmanager
def _mapped(file: Path) -> Iterator[pa.MemoryMappedFile]:
    with open_file(file) as raw:
        if not raw.read(1):
            raise DataError(str(file), "is empty", expected="an Arrow IPC file", remedy="Write the file again.")
    with pa.memory_map(str(file)) as source:
        yield source


def _reader(file: Path, source: pa.MemoryMappedFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    magic = source.read(len(_FILE_MAGIC))
    source.seek(0)
    try:
        if magic == _FILE_MAGIC:
            return pa.ipc.open_file(source)
        if magic.startswith(_CONTINUED):
            return pa.ipc.open_stream(source)
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    raise DataError(
        str(file),
        "is no Arrow IPC file",
        expected="the file format (magic 'ARROW1') or the stream format",
        got=f"the first bytes {magic!r}",
        remedy="Check data.source.format; a Feather V1 or pre-1.0 file has to be written again.",
    )


def _damaged(file: Path, error: Exception) -> DataError:
    got = " ".join(str(error).split())
    return DataError(str(file), "is damaged or cut off", got=got, remedy="Write the file again.")
