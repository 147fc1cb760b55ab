"""Rows of columns as serialized tf.Examples, made a column at a time; equal rows give equal bytes.

What a row's message consists of differs between the rows of a column in the value alone, and its lengths take few
values: so each column is laid out by NumPy and Arrow for all rows at once, which lets other threads run meanwhile, and
Arrow joins the columns. What it costs against `tfx_bsl`'s encoder, whose order of features varies: `python -m bench.payload`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["encode", "to_list_columns"]

_Bytes = npt.NDArray[np.uint8]

# Tags of tensorflow/core/example/{example,feature}.proto: field number << 3 | 2 (length-delimited).
_EXAMPLE_FEATURES = 0x0A
_FEATURES_ENTRY = 0x0A
_ENTRY_KEY, _ENTRY_VALUE = 0x0A, 0x12
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 0x0A, 0x12, 0x1A
_LIST_VALUE = 0x0A
_NOTHING = pa.scalar(b"", pa.large_binary())
_FLOAT_BYTES = 4
_VARINT_BITS = 7


def encode(batch: pa.RecordBatch) -> pa.LargeBinaryArray:
    """One serialized tf.Example per row; a missing value is a feature without a kind, as stock TFX writes it too.

    TensorFlow's parsers and TFDV take such a feature for a missing one, which an empty list is not.

    Args:
        batch: plain columns of whole numbers, numbers or text; features stand in their order.
    """
    if not batch.num_columns:
        return pa.array([b""] * batch.num_rows, pa.large_binary())
    entries = [_entries(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    features = pc.binary_join_element_wise(*entries, _NOTHING)
    return _after_heads(features, lambda length: bytes([_EXAMPLE_FEATURES]) + _varint(length))


def to_list_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with each value in a list of its own, as tfx_bsl's decoder gives it.

    Columns become large_list<T> of the same length and name: [value] where a value is there, null where none is.
    """
    return pa.RecordBatch.from_arrays([_to_lists(column) for column in batch.columns], names=batch.schema.names)


def _to_lists(column: pa.Array) -> pa.LargeListArray:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(valid, out=offsets[1:])
    missing = pa.array(~valid) if column.null_count else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), column.drop_null(), mask=missing)


# --- one column -------------------------------------------------------------------------------------------------------


def _entries(name: str, column: pa.Array) -> pa.LargeBinaryArray:
    """The entry of each row in the map of features."""
    key = name.encode()
    missing = _entry(key, b"")
    if column.null_count == len(column):
        return pa.repeat(pa.scalar(missing, pa.large_binary()), len(column))
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        found = _whole_numbers(key, column.fill_null(0).cast(pa.int64()))
    elif pa.types.is_floating(kind):
        found = _numbers(key, column.fill_null(0).cast(pa.float32()))
    else:
        found = _texts(key, column.cast(pa.large_binary()).fill_null(b""))
    return pc.if_else(column.is_valid(), found, pa.scalar(missing, pa.large_binary())) if column.null_count else found


def _numbers(key: bytes, column: pa.Array) -> pa.LargeBinaryArray:
    values = column.to_numpy().astype("<f4", copy=False).view(np.uint8).reshape(-1, _FLOAT_BYTES)
    return _of_one_width(_head(key, _FLOAT_LIST, _FLOAT_BYTES), values)


def _whole_numbers(key: bytes, column: pa.Array) -> pa.LargeBinaryArray:
    """Varints, laid out together where they have the same number of bytes."""
    values = column.to_numpy().view(np.uint64)
    widths = _varint_widths(values)
    groups = [(width, np.flatnonzero(widths == width)) for width in np.flatnonzero(np.bincount(widths)).tolist()]
    laid_out = [_of_one_width(_head(key, _INT64_LIST, width), _varints(values[rows], width)) for width, rows in groups]
    if len(groups) == 1:
        return laid_out[0]
    places = np.empty(len(values), np.int64)
    places[np.concatenate([rows for _, rows in groups])] = np.arange(len(values))
    return pa.concat_arrays(laid_out).take(pa.array(places))


def _texts(key: bytes, column: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    return _after_heads(column, lambda length: _head(key, _BYTES_LIST, length))


def _of_one_width(head: bytes, values: _Bytes) -> pa.LargeBinaryArray:
    """The same head before each value; values are [rows, bytes]."""
    rows, width = len(values), len(head) + values.shape[1]
    laid_out = np.empty((rows, width), np.uint8)
    laid_out[:, : len(head)] = np.frombuffer(head, np.uint8)
    laid_out[:, len(head) :] = values
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(laid_out)]
    )


def _after_heads(values: pa.LargeBinaryArray, head: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """Each value behind the head that its length asks for."""
    lengths = pc.binary_length(values).dictionary_encode()
    heads = pa.array([head(length) for length in lengths.dictionary.to_pylist()], pa.large_binary())
    return pc.binary_join_element_wise(heads.take(lengths.indices), values, _NOTHING)


# --- the wire format (protobuf.dev/programming-guides/encoding) --------------------------------------------------------


def _head(key: bytes, kind: int, length: int) -> bytes:
    """What stands before a value of so many bytes: the entry's lengths, its key, the feature's, and the list's."""
    return _entry(key, _message(kind, _message(_LIST_VALUE, b"\0" * length)))[: -length or None]


def _entry(key: bytes, feature: bytes) -> bytes:
    return _message(_FEATURES_ENTRY, _message(_ENTRY_KEY, key) + _message(_ENTRY_VALUE, feature))


def _message(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes(_varint_bytes(value))


def _varint_bytes(value: int) -> Iterator[int]:
    while value >> _VARINT_BITS:
        yield value & 0x7F | 0x80
        value >>= _VARINT_BITS
    yield value


def _varint_widths(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """How many bytes each value takes, 1 to 10."""
    bounds = np.uint64(1) << (np.arange(1, 10, dtype=np.uint64) * np.uint64(_VARINT_BITS))
    return np.asarray(np.searchsorted(bounds, values, side="right") + 1, np.int64)


def _varints(values: npt.NDArray[np.uint64], width: int) -> _Bytes:
    """Values that take so many bytes each: [rows, width]."""
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(_VARINT_BITS)
    parts = ((values[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    parts[:, :-1] |= 0x80
    return parts
