"""Rows to train on, held in memory or in a file, read block by block; and the order in which an epoch takes them.

The order follows from seed, epoch and number of rows alone, so that a training does not depend on how much memory a
machine has. Imports no TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from schemas.errors import DataError

__all__ = ["Arrays", "Blocks", "Collector", "Window", "memory_budget_bytes", "window"]

Arrays = tuple[npt.NDArray[Any], ...]
"""One array per feature, `[rows, ...]` each; text as objects."""

_BUDGET_SHARE = 0.25
_BUDGET_BYTES = 256 << 20
"""More rows than that lie in a file: memory stays flat in their number, and reading them back costs little of training."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_TEXT_BYTES = 64
"""What a text is reckoned to take, its object included."""


def memory_budget_bytes() -> int:
    """How much memory rows may take: a quarter of the machine's or of the container's, and 256 MB at most."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [file.read_text(encoding="ascii").strip() for file in map(Path, _CGROUP_LIMITS) if file.is_file()]
    held = min([machine, *(int(text) for text in texts if text.isdigit())])
    return min(int(held * _BUDGET_SHARE), _BUDGET_BYTES)


class Blocks:
    """Rows in blocks of one size; the last may be smaller.

    Attributes:
        rows: their number.
        block_rows: rows of a block.
        file: that holds them; None where they are in memory.
    """

    def __init__(
        self, rows: int, block_rows: int, held: Arrays, file: Path | None, forms: Sequence[tuple[Any, tuple[int, ...]]]
    ) -> None:
        """Take the rows as arrays, or the file that a `Collector` has written; and dtype and shape of a row of each array."""
        self.rows, self.block_rows, self.file = rows, block_rows, file
        self._held, self._forms = held, tuple(forms)

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    def read(self, blocks: npt.NDArray[np.int64]) -> Arrays:
        """The rows of some blocks, one block after the other.

        Raises:
            DataError: the file holds fewer rows than were written.
        """
        arrays = self._read_file(blocks) if self.file is not None else self._read_held(blocks)
        expected = self._rows_of(blocks)
        if any(len(array) != expected for array in arrays):
            found = sorted({len(array) for array in arrays})
            raise DataError("rows to train on", "have got lost", expected=f"{expected:,} rows", got=str(found))
        return arrays

    def window(self, blocks: npt.NDArray[np.int64]) -> Window:
        """As `read`; rows that are held in memory are not copied."""
        if self.file is not None:
            return Window(self.read(blocks), np.arange(self._rows_of(blocks)))
        rows = [np.arange(block * self.block_rows, min((block + 1) * self.block_rows, self.rows)) for block in blocks]
        return Window(self._held, np.concatenate(rows))

    def _rows_of(self, blocks: npt.NDArray[np.int64]) -> int:
        return sum(min(self.block_rows, self.rows - int(block) * self.block_rows) for block in blocks)

    def _read_held(self, blocks: npt.NDArray[np.int64]) -> Arrays:
        if np.all(np.diff(blocks) == 1):
            run = slice(int(blocks[0]) * self.block_rows, (int(blocks[-1]) + 1) * self.block_rows)
            return tuple(held[run] for held in self._held)
        slices = [slice(block * self.block_rows, (block + 1) * self.block_rows) for block in blocks]
        return tuple(np.concatenate([held[one] for one in slices]) for held in self._held)

    def _read_file(self, blocks: npt.NDArray[np.int64]) -> Arrays:
        """Block by block into the arrays, so that no more than a block is there twice."""
        rows = self._rows_of(blocks)
        arrays = [np.empty((rows, *shape), dtype) for dtype, shape in self._forms]
        end = 0
        with pa.OSFile(str(self.file)) as source, pa.ipc.open_file(source) as reader:
            for block in blocks:
                batch = reader.get_batch(int(block))
                start, end = end, end + batch.num_rows
                for array, column in zip(arrays, batch.columns, strict=True):
                    array[start:end] = _to_numpy(column, array.shape[1:])
        return tuple(array[:end] for array in arrays)


@dataclass(frozen=True)
class Window:
    """Rows that are mixed with each other.

    Attributes:
        arrays: that hold them, and possibly others.
        order: indices of the rows, in the order in which they come.
    """

    arrays: Arrays
    order: npt.NDArray[np.int64]

    def rows(self, start: int, stop: int) -> Arrays:
        """Some of the rows, by their places in the order."""
        chosen = self.order[start:stop]
        return tuple(array.take(chosen, axis=0) for array in self.arrays)


class Collector:
    """Takes rows as they come; keeps them in memory up to a budget, and writes them into a file above it.

    Attributes:
        held_bytes: what is kept in memory at the moment.
    """

    def __init__(self, budget_bytes: int, block_rows: int, file: Path, rows: int | None = None) -> None:
        """Take the budget, the rows of a block, the file that is written where the budget does not do, and how many rows come.

        Where that number is known, rows that will not fit are written from the first block on; else once the budget is
        used up.
        """
        self._budget, self._block_rows, self._file, self._expected = budget_bytes, block_rows, file, rows
        self._parts: list[Arrays] = []
        self._forms: list[tuple[Any, tuple[int, ...]]] = []
        self.held_bytes = 0
        self._rows = 0
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def add(self, arrays: Arrays) -> None:
        """Take some rows."""
        self._forms = self._forms or [(array.dtype, array.shape[1:]) for array in arrays]
        self._parts.append(arrays)
        self._rows += len(arrays[0])
        self.held_bytes += _bytes_of(arrays)
        if self._writer is not None or self.held_bytes > self._budget or self._would_not_fit(arrays):
            self._write(whole=False)

    def finish(self) -> Blocks:
        """All rows; nothing can be added any more."""
        if self._writer is None and self.held_bytes <= self._budget:
            return Blocks(self._rows, self._block_rows, self._joined(), None, self._forms)
        self._write(whole=True)
        if self._writer is not None:
            self._writer.close()
        return Blocks(self._rows, self._block_rows, (), self._file, self._forms)

    def _would_not_fit(self, arrays: Arrays) -> bool:
        rows = len(arrays[0])
        return self._expected is not None and self._expected * _bytes_of(arrays) > self._budget * rows

    def _joined(self) -> Arrays:
        """The rows that are held, which are let go column by column: no more than one is there twice."""
        columns = [list(column) for column in zip(*self._parts, strict=True)]
        self._parts = []
        joined = []
        while columns:
            joined.append(np.concatenate(columns.pop(0)))
        return tuple(joined)

    def _write(self, *, whole: bool) -> None:
        """Writes full blocks, and what is left where that is the end."""
        arrays = self._joined()
        rows = len(arrays[0]) if arrays else 0
        end = rows if whole else rows - rows % self._block_rows
        for start in range(0, end, self._block_rows):
            stop = min(start + self._block_rows, end)
            self._write_block(tuple(array[start:stop] for array in arrays))
        self._parts = [tuple(array[end:].copy() for array in arrays)] if end < rows else []
        self.held_bytes = sum(map(_bytes_of, self._parts))

    def _write_block(self, arrays: Arrays) -> None:
        columns = [_to_arrow(array) for array in arrays]
        batch = pa.RecordBatch.from_arrays(columns, names=[str(index) for index in range(len(columns))])
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.ipc.new_file(str(self._file), batch.schema)
        self._writer.write_batch(batch)


def window(blocks: Blocks, index: int, window_blocks: int, seed: Sequence[int]) -> Window:
    """The rows that an epoch takes next, `window_blocks` blocks at a time; a smaller block comes last.

    Args:
        blocks: all rows.
        index: of the window within the epoch.
        window_blocks: blocks that are mixed with each other.
        seed: of the epoch: blocks come in an order of its own, and so do the rows of a window, so that all rows are
            mixed with all where one window holds them.
    """
    full = blocks.rows // blocks.block_rows
    order = np.arange(blocks.count)
    order[:full] = np.random.default_rng([*seed]).permutation(full)
    chosen = np.sort(order[index * window_blocks : (index + 1) * window_blocks])
    found = blocks.window(chosen)
    rows = np.random.default_rng([*seed, index]).permutation(len(found.order))
    return Window(found.arrays, found.order[rows])


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.size * _TEXT_BYTES if array.dtype == object else array.nbytes for array in arrays)


def _to_arrow(array: npt.NDArray[Any]) -> pa.Array:
    size = int(np.prod(array.shape[1:], dtype=np.int64))
    flat = array.reshape(-1)
    values = pa.array(flat, pa.large_binary()) if array.dtype == object else pa.array(flat)
    return pa.FixedSizeListArray.from_arrays(values, size)


def _to_numpy(column: pa.Array, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)
    return found
