"""Real rows of a split, as a raw request gives them and as serialized tf.Examples. No TensorFlow."""

from __future__ import annotations

import gzip
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from components.arrays import Array, load_arrays, save_arrays
from components.example_gen.sidecar import read_columns

__all__ = ["CannotAskError", "Rows", "read_rows"]

_EXAMPLES = "examples"
_VALUES, _PRESENT = "values/", "present/"
_LENGTH = struct.Struct("<Q")
_CRC_BYTES = 4


class CannotAskError(Exception):
    """Why a payload cannot be asked about rows, in words that follow its name."""


@dataclass(frozen=True)
class Rows:
    """The first rows of a split.

    Attributes:
        values: column to `[rows]`: int64, float32 or bytes; where a row has no value, anything.
        present: column to `[rows]`: whether the row has a value.
        examples: the same rows as serialized tf.Examples.
    """

    values: Mapping[str, Array]
    present: Mapping[str, Array]
    examples: Sequence[bytes]

    @property
    def count(self) -> int:
        """Their number."""
        return len(self.examples)

    def save(self, file: Path) -> None:
        """Writes them for another process."""
        blob = np.frombuffer(b"".join(self.examples), np.uint8)
        sizes = np.array([len(one) for one in self.examples], np.int64)
        save_arrays(
            file,
            {f"{_VALUES}{name}": array for name, array in self.values.items()}
            | {f"{_PRESENT}{name}": array for name, array in self.present.items()}
            | {_EXAMPLES: blob, f"{_EXAMPLES}/sizes": sizes},
        )

    @staticmethod
    def load(file: Path) -> Rows:
        """Reads what `save` wrote."""
        arrays = load_arrays(file)
        blob, sizes = arrays[_EXAMPLES].tobytes(), arrays[f"{_EXAMPLES}/sizes"]
        ends = np.cumsum(sizes).tolist()
        examples = [blob[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=False)]
        return Rows(_under(arrays, _VALUES), _under(arrays, _PRESENT), examples)


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def read_rows(folder: Path, split: str, limit: int) -> Rows:
    """The first rows of a split of an Examples artifact.

    Args:
        folder: of the artifact.
        split: its name.
        limit: how many at most.

    Returns:
        No rows where the split holds none. The columns come from the artifact's own where it has them, else from the
        tf.Examples.
    """
    examples = list(itertools.islice(_records(folder / f"Split-{split}"), limit))
    batches = read_columns(folder, split)
    columns = _of_examples(examples) if batches is None else _of_batches(batches, len(examples))
    values, present = {}, {}
    for name, cells in columns.items():
        values[name], present[name] = _column(cells)
    return Rows(values, present, examples)


def _of_batches(batches: Iterator[Any], count: int) -> dict[str, list[Any]]:
    """The first cells of each column; None where a row has no value."""
    columns: dict[str, list[Any]] = {}
    read = 0
    for batch in batches:
        part = batch.slice(0, count - read)
        for name, column in zip(part.schema.names, part.columns, strict=True):
            columns.setdefault(name, [None] * read).extend(column.to_pylist())
        read += part.num_rows
        for cells in columns.values():
            cells.extend([None] * (read - len(cells)))
        if read >= count:
            break
    return columns


def _of_examples(examples: Sequence[bytes]) -> dict[str, list[Any]]:
    from tensorflow.core.example import example_pb2

    columns: dict[str, list[Any]] = {}
    for row, serialized in enumerate(examples):
        for name, feature in example_pb2.Example.FromString(serialized).features.feature.items():
            kind = feature.WhichOneof("kind")
            found = getattr(feature, kind).value if kind else []
            columns.setdefault(name, [None] * len(examples))[row] = found[0] if len(found) == 1 else None
    return columns


def _column(cells: Sequence[Any]) -> tuple[Array, Array]:
    """Values and where there are any."""
    present = np.array([cell is not None for cell in cells], bool)
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {int}:
        return np.array([0 if cell is None else cell for cell in cells], np.int64), present
    if kinds <= {int, float}:
        return np.array([np.nan if cell is None else cell for cell in cells], np.float32), present
    return np.array([b"" if cell is None else cell for cell in cells], np.bytes_), present


def _records(folder: Path) -> Iterator[bytes]:
    """The records of the TFRecord files of a split, in their order; checksums are not looked at."""
    for file in sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")):
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as content:
            yield from _records_of(cast("IO[bytes]", content))


def _records_of(content: IO[bytes]) -> Iterator[bytes]:
    while header := content.read(_LENGTH.size + _CRC_BYTES):
        (length,) = _LENGTH.unpack_from(header)
        yield content.read(length)
        content.read(_CRC_BYTES)
