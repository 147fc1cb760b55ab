"""Statistics of small columns, as our StatisticsGen computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components.statistics_gen.compute import statistics_of

__all__ = ["numbers", "statistics"]

Column = Sequence[Any] | np.ndarray[Any, Any]


def statistics(**columns: Column) -> Any:
    """Of one data set: text, whole numbers or numbers, by the first value that is there; one value a row."""
    return statistics_of([pa.RecordBatch.from_pydict({name: _list_column(column) for name, column in columns.items()})])


def numbers(seed: int, rows: int = 4000) -> np.ndarray[Any, Any]:
    """Like trip lengths: a third is 0, the rest is rounded, and a few are hundreds of times longer."""
    random = np.random.default_rng(seed)
    values = np.round(random.lognormal(0.5, 1.2, rows), 1)
    values[random.random(rows) < 0.33] = 0.0
    values[random.random(rows) < 0.001] *= random.uniform(10, 500)
    return values


def _list_column(values: Column) -> pa.Array:
    values = list(values)
    some = next((value for value in values if value is not None), None)
    if some is None:
        return pa.nulls(len(values))
    kinds = {str: pa.large_binary(), int: pa.int64()}
    kind = kinds.get(type(some), pa.float32())
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return pa.array([None if value is None else [value] for value in encoded], pa.large_list(kind))
