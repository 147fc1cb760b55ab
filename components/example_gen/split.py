"""Which split a row belongs to: a function of the row's own values, and of nothing else.

A row keeps its split when data is added, when columns or files change places, and when a column without values appears:
the hash of a row is the sum, modulo 2**64, of the hashes of its (column, value) pairs, and a missing value adds
nothing. Rows with equal values are in the same split, so that no row of `eval` has been trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["row_hashes", "split_of"]

_NAN = np.uint64(0x7FF8000000000000)


def split_of(batch: pa.RecordBatch, weights: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """The index of each row's split among the keys of `weights`.

    The hash modulo the sum of the weights falls into contiguous ranges, as TFX's hash buckets do: with weights 7, 1, 2
    the buckets 0 to 6 are the first split, 7 the second, 8 and 9 the third.

    Args:
        batch: rows of plain columns (numbers, text or bytes).
        weights: positive whole numbers by split name, in order.

    Returns:
        int64, shape [rows].

    >>> batch = pa.record_batch({"a": [1, 2, 3, 4]})
    >>> split_of(batch, {"train": 1, "eval": 1}).tolist()
    [0, 1, 1, 0]
    """
    if not weights or min(weights.values()) < 1:
        raise ValueError(f"weights must be positive whole numbers, got {dict(weights)!r}")
    ends = np.cumsum(list(weights.values()), dtype=np.uint64)
    buckets = row_hashes(batch) % ends[-1]
    return np.asarray(np.searchsorted(ends, buckets, side="right"), np.int64)


def row_hashes(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """A stable hash of each row's canonical values: uint64, shape [rows].

    Numbers count by their value as a double (1 and 1.0 are equal, so are 0.0 and -0.0, and all NaN), text by its UTF-8
    bytes. Stable over processes, platforms and versions: changing it moves rows between splits.
    """
    total = np.zeros(batch.num_rows, np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        total += _column_hashes(name, column)  # modulo 2**64, and in whatever order
    return _mix(total)


def _column_hashes(name: str, column: pa.Array) -> npt.NDArray[np.uint64]:
    """The hash of each value together with its column's name; 0 where the value is missing."""
    if column.null_count == len(column):
        return np.zeros(len(column), np.uint64)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        salt = _digest(name.encode(), b"number")
        values = _number_bits(column)
    else:
        salt = _digest(name.encode(), b"bytes")
        values = _text_hashes(column)
    return np.where(valid, _mix(values ^ salt), np.uint64(0))


def _number_bits(column: pa.Array) -> npt.NDArray[np.uint64]:
    """The bits of each number as a double, one pattern per value; anything where it is missing."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) + 0.0  # -0.0 + 0.0 is 0.0
    return np.where(np.isnan(values), _NAN, values.view(np.uint64))


def _text_hashes(column: pa.Array) -> npt.NDArray[np.uint64]:
    """The hash of each value's bytes, computed once per distinct value; anything where it is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.large_string()).cast(pa.large_binary())
    encoded = column.dictionary_encode()
    distinct = np.array([_digest(value) for value in encoded.dictionary.to_pylist()], np.uint64)
    indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(distinct[indices], np.uint64)


def _digest(data: bytes, person: bytes = b"") -> np.uint64:
    """The first 8 bytes of BLAKE2b, little endian."""
    return np.uint64(int.from_bytes(hashlib.blake2b(data, digest_size=8, person=person).digest(), "little"))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64: every bit of the argument moves half of the bits of the result.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; constants by Stafford.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
