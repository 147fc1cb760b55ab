"""TFRecord files: written a batch of records at a time, hashed on the way, and counted on the disk."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError

__all__ = ["RecordFile", "count_records", "framed", "whole_records"]

_LENGTH = struct.Struct("<Q")
_HEAD = 12
"""Length of the data, and its CRC."""
_TAIL = 4
"""CRC of the data."""
_BLOCK_BYTES = 4 << 20
_NOTHING = pa.scalar(b"", pa.large_binary())


def framed(records: pa.LargeBinaryArray) -> pa.Buffer:
    """The bytes of a TFRecord file that holds some records.

    Source: tensorflow/core/lib/io/record_writer.h.
    """
    lengths = pc.binary_length(records).dictionary_encode()
    sizes = [_LENGTH.pack(length) for length in lengths.dictionary.to_pylist()]
    masked = _masked(sizes).tobytes()
    heads = [size + masked[4 * index : 4 * index + 4] for index, size in enumerate(sizes)]
    tails = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_TAIL), len(records), [None, pa.py_buffer(_masked(records.to_pylist()))]
    )
    parts = pa.array(heads, pa.large_binary()).take(lengths.indices), records, tails.cast(pa.large_binary())
    whole = pc.binary_join_element_wise(*parts, _NOTHING)
    return _content(whole)


def _masked(records: list[bytes]) -> npt.NDArray[np.uint32]:
    """The checksum of each record as it stands in the file: CRC-32C, rotated and shifted by a constant."""
    crc = np.fromiter(map(google_crc32c.value, records), "<u4", len(records))
    return np.asarray(((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8), "<u4")


def _content(values: pa.LargeBinaryArray) -> pa.Buffer:
    """All values, one after the other."""
    _, offsets, data = values.buffers()
    if not len(values) or data is None:
        return pa.py_buffer(b"")
    bounds = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]]
    return data.slice(int(bounds[0]), int(bounds[1] - bounds[0]))


class RecordFile:
    """A file of records that is being written; a context that closes it.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a file in a folder that is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, content: pa.Buffer) -> None:
        """Adds what `framed` gave."""
        view = memoryview(content)
        self._digest.update(view)
        self._size += len(view)
        while view:
            view = view[self._file.write(view) :]

    def digest(self) -> str:
        """SHA-256 of all that was written, in hex.

        Raises:
            DataError: the file has another length.
        """
        found = self.path.stat().st_size
        if found != self._size:
            problem = "is not as long as what was written into it"
            remedy = "Check that the disk is not full and run again."
            raise DataError(str(self.path), problem, expected=f"{self._size} bytes", got=str(found), remedy=remedy)
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def count_records(path: Path) -> int:
    """The number of records of an uncompressed TFRecord file, by its framing: the data is skipped, not checked.

    Raises:
        DataError: the file ends within a record.
    """
    size = path.stat().st_size
    records = offset = 0
    with path.open("rb", buffering=0) as file:
        while offset < size:
            file.seek(offset)
            found, length = whole_records(file.read(_BLOCK_BYTES), size - offset)
            if not found:
                problem = f"ends within the record at byte {offset}"
                raise DataError(str(path), problem, remedy="Delete the folder and run again.")
            records, offset = records + found, offset + length
    return records


def whole_records(block: bytes, left: int) -> tuple[int, int]:
    """How many records begin in a block, of those that end within `left` bytes from its start; and where the last ends."""
    records = end = 0
    last = min(len(block), left) - _HEAD
    while end <= last:
        after = end + _HEAD + _LENGTH.unpack_from(block, end)[0] + _TAIL
        if after > left:
            break
        records, end = records + 1, after
    return records, end
