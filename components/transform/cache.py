"""What the analysis of a file came to, kept for later runs: a file that was there before costs no pass over its rows.

An entry holds the accumulators of the first phase over one shard of examples (`components.example_gen.shards`), named by
the shard's content and by everything that decides what the accumulators are. It is an `.npz` of plain arrays beside a
description in JSON: nothing is unpickled. What is damaged, or made by or for something else, is no entry. Accumulators
are merged in the order of the files whether they were known or not, so that the outcome is the same to the last bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_transform import analyzers
from tfx_bsl import sketches

from components.transform.operations import Elements

__all__ = ["AnalyzerCache", "Entry", "NotKeptError", "decode", "encode"]

_VERSION = 1
_KEPT_BYTES = 1 << 30
_HALF_SUFFIX = ".half"
_HALF_KEPT_S = 3600.0
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, IndexError, zipfile.BadZipFile, zlib.error)
_TUPLES = {
    kind.__name__: kind
    for kind in (analyzers._WeightedMeanAndVarAccumulator, analyzers._LMomentsAccumulator)  # noqa: SLF001 - tf.Transform's own accumulators have no public name
}
_SKETCHES = {kind.__name__: kind for kind in (sketches.QuantilesSketch, sketches.MisraGriesSketch)}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What is kept of a file.

    Attributes:
        rows: of the file.
        elements: of each accumulation.
    """

    rows: int
    elements: list[Elements]


class NotKeptError(Exception):
    """An accumulator of a kind that is not known here; it is computed anew in every run."""


class AnalyzerCache:
    """The entries in a folder.

    Args:
        folder: of all entries; it is made when the first one is kept.
        keys: path of each file of examples to the key of its content; others are analyzed in every run.
        made_by: names the preprocessing function, the schema and the code.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str], made_by: Sequence[str]) -> None:
        self._folder = folder
        self._keys = dict(keys)
        self._made_by = list(made_by)

    def find(self, file: str, accumulations: Sequence[str]) -> Entry | None:
        """What is known of a file.

        Args:
            file: of examples.
            accumulations: what each of them is, in their order.
        """
        path = self._path(file, accumulations)
        if path is None or not path.is_file():
            return None
        try:
            entry = _unpack(path.read_bytes(), path.stem, len(accumulations))
        except _DAMAGE as error:
            _log.warning("What is kept of %s cannot be used, and is made anew: %s", file, error)
            return None
        with contextlib.suppress(OSError):  # somebody else's file, or one that another run has just taken out
            os.utime(path)
        return entry

    def keep(self, file: str, accumulations: Sequence[str], entry: Entry) -> Entry:
        """Keeps what was found out about a file.

        Returns:
            The entry as a later run will find it; the same one where it cannot be kept.
        """
        path = self._path(file, accumulations)
        if path is None:
            return entry
        try:
            content = _pack(entry, path.stem)
        except NotKeptError as reason:
            _log.info("The analysis of %s is not kept: %s", file, reason)
            return entry
        half = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}{_HALF_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(content)
            half.replace(path)
        except OSError as error:
            _log.warning("The analysis of %s is not kept: %s", file, error)
            _remove(half)
        return _unpack(content, path.stem, len(accumulations))

    def prune(self, limit_bytes: int = _KEPT_BYTES) -> None:
        """Takes out the entries that were not used for the longest time, until the others fit; and what kills have left."""
        held = 0
        for state, path in sorted(self._files("*.npz"), key=lambda one: one[0].st_mtime_ns, reverse=True):
            held += state.st_size
            if held > limit_bytes:
                _remove(path)
        for state, path in self._files(f"*{_HALF_SUFFIX}"):
            if time.time() - state.st_mtime > _HALF_KEPT_S:  # another run may be writing a newer one
                _remove(path)

    def _files(self, pattern: str) -> list[tuple[os.stat_result, Path]]:
        """Those that are still there: another run may be pruning too."""
        found = []
        for path in self._folder.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat(), path))
        return found

    def _path(self, file: str, accumulations: Sequence[str]) -> Path | None:
        key = self._keys.get(file)
        if not key:
            return None
        parts = [_VERSION, np.__version__, key, self._made_by, list(accumulations)]
        return self._folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.npz"


def _remove(path: Path) -> None:
    """Removes a file of the cache; that it cannot be removed is no reason for the node to fail."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s stays: %s", path, error)


# --- an entry as bytes ------------------------------------------------------------------------------------------------

_DIGEST_BYTES = 32


def _pack(entry: Entry, name: str) -> bytes:
    arrays: list[npt.NDArray[Any]] = []
    described = {
        "version": _VERSION,
        "name": name,
        "rows": entry.rows,
        "elements": [encode(elements, arrays) for elements in entry.elements],
    }
    buffer = io.BytesIO()
    named: dict[str, Any] = {f"array_{index}": array for index, array in enumerate(arrays)}
    np.savez(buffer, **named, description=np.frombuffer(json.dumps(described).encode(), np.uint8))
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def _unpack(content: bytes, name: str, accumulations: int) -> Entry:
    """The entry of that name.

    Raises:
        ValueError, or another of `_DAMAGE`: it is none.
    """
    digest, packed = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() != digest:
        raise ValueError("it is damaged")
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        described = json.loads(arrays["description"].tobytes())
        if (described["version"], described["name"]) != (_VERSION, name):
            raise ValueError("it belongs to something else")
        elements = [decode(one, arrays) for one in described["elements"]]
    if len(elements) != accumulations or any(not isinstance(one, list) for one in elements):
        raise ValueError("it holds other analyzers")
    return Entry(int(described["rows"]), elements)


def encode(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """A value as JSON; what is large goes into `arrays`, and its index into the JSON.

    Raises:
        NotKeptError: the value, or one within, is of a kind that is not known here.
    """
    if value is None or isinstance(value, bool | str):
        return value
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            tag, content = write(value, arrays)
            return {tag: content}
    raise NotKeptError(f"a {type(value).__name__} has no form on disk")


def decode(described: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """The value that `encode` described.

    Raises:
        ValueError, or another of the exceptions for damaged entries: it is not described so.
    """
    if described is None or isinstance(described, bool | str):
        return described
    ((tag, content),) = described.items()
    return _READERS[tag](content, arrays)


def _put(array: npt.NDArray[Any], arrays: list[npt.NDArray[Any]]) -> int:
    arrays.append(array)
    return len(arrays) - 1


def _get(index: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[f"array_{int(index)}"]


def _write_array(value: npt.NDArray[Any], arrays: list[npt.NDArray[Any]]) -> tuple[str, Any]:
    if value.dtype != object:
        return "array", _put(value, arrays)
    return "objects", [list(value.shape), [encode(one, arrays) for one in value.ravel().tolist()]]


def _read_objects(content: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    shape, values = content
    flat = np.empty(len(values), object)
    flat[:] = [decode(one, arrays) for one in values]
    return flat.reshape(shape)


def _write_list(value: list[Any], arrays: list[npt.NDArray[Any]]) -> tuple[str, Any]:
    """A list; the words and counts of a vocabulary as two columns."""
    if value and all(type(one) is tuple and len(one) == 2 for one in value):
        columns = list(zip(*value, strict=True))
        if all(_is_plain(column) for column in columns):
            return "pairs", [_write_column(column, arrays) for column in columns]
    return "list", [encode(one, arrays) for one in value]


def _is_plain(values: Sequence[Any]) -> bool:
    kinds = {type(value) for value in values}
    return kinds in ({bytes}, {float}) or (kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in values))


def _write_column(values: Sequence[Any], arrays: list[npt.NDArray[Any]]) -> Any:
    """Values of one plain type as arrays."""
    if not isinstance(values[0], bytes):
        return {"numbers": _put(np.array(values), arrays)}
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    return {"bytes": [_put(np.frombuffer(b"".join(values), np.uint8), arrays), _put(ends, arrays)]}


def _read_pairs(content: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> list[tuple[Any, Any]]:
    first, second = (_read_column(column, arrays) for column in content)
    return list(zip(first, second, strict=True))


def _read_column(column: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    ((tag, content),) = column.items()
    if tag != "bytes":
        plain: list[Any] = _get(content, arrays).tolist()
        return plain
    text, ends = _get(content[0], arrays).tobytes(), _get(content[1], arrays).tolist()
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _write_tuple(value: tuple[Any, ...], arrays: list[npt.NDArray[Any]]) -> tuple[str, Any]:
    name = type(value).__name__
    if type(value) is not tuple and type(value) is not _TUPLES.get(name):
        raise NotKeptError(f"a {name} has no form on disk")
    return "tuple", ["" if type(value) is tuple else name, [encode(one, arrays) for one in value]]


def _read_tuple(content: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[Any, ...]:
    name, values = content
    decoded = [decode(one, arrays) for one in values]
    return _TUPLES[name](*decoded) if name else tuple(decoded)


def _write_float(value: float, _: list[npt.NDArray[Any]]) -> tuple[str, Any]:
    return "float", value.hex() if math.isfinite(value) else repr(value)


def _write_sketch(value: Any, arrays: list[npt.NDArray[Any]]) -> tuple[str, Any]:
    return "sketch", [type(value).__name__, _put(np.frombuffer(value.__getstate__(), np.uint8), arrays)]


def _read_sketch(content: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """The sketch that C++ makes of its own serialized form, which it checks."""
    name, state = content
    kind = _SKETCHES[name]
    sketch = kind.__new__(kind)
    sketch.__setstate__(_get(state, arrays).tobytes())
    return sketch


# In this order: a named tuple is a tuple, and a NumPy scalar may be a Python number.
_WRITERS: tuple[tuple[Any, Any], ...] = (
    (np.ndarray, _write_array),
    (np.generic, lambda value, arrays: ("scalar", _put(np.array(value), arrays))),
    (int, lambda value, _: ("int", value)),
    (float, _write_float),
    (bytes, lambda value, _: ("bytes", value.hex())),
    (list, _write_list),
    (tuple, _write_tuple),
    (tuple(_SKETCHES.values()), _write_sketch),
)
_READERS: Mapping[str, Any] = {
    "array": lambda content, arrays: _get(content, arrays).copy(),
    "objects": _read_objects,
    "scalar": lambda content, arrays: _get(content, arrays)[()],
    "int": lambda content, _: int(content),
    "float": lambda content, _: float.fromhex(content),
    "bytes": lambda content, _: bytes.fromhex(content),
    "list": lambda content, arrays: [decode(one, arrays) for one in content],
    "pairs": _read_pairs,
    "tuple": _read_tuple,
    "sketch": _read_sketch,
}
