"""Counts the rows of files against a baseline, in one pass and flat memory, without statistics. No TFX, no TensorFlow.

Numbers are counted in the baseline's own buckets, at whose edges `distance` asks for them, so that the result is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data_gate.distance import Numbers, Texts, bucket_edges
from components.data_gate.drift import Columns

__all__ = ["count_rows"]


def count_rows(
    batches: Iterable[pa.RecordBatch], features: Mapping[str, str], then: Columns
) -> tuple[int, dict[str, Texts | Numbers | None]]:
    """The number of rows, and the values of each feature as far as they are needed to measure their distance.

    Args:
        batches: of flat columns, as `components.example_gen.read` gives them.
        features: name to type, `BYTES`, `INT` or `FLOAT`; others are not looked at.
        then: the baseline's values; {} to count rows alone.
    """
    counters: dict[str, _Texts | _Numbers] = {
        name: _Texts() if kind == "BYTES" else _Numbers(kind, _edges(then.get(name)))
        for name, kind in features.items()
        if name in then
    }
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for name, counter in counters.items():
            counter.add(batch.column(name).drop_null())
    return rows, {name: counter.values() for name, counter in counters.items()}


def _edges(then: Texts | Numbers | None) -> Any:
    return bucket_edges(then) if isinstance(then, Numbers) else np.array([0.0])


@dataclass
class _Texts:
    """Every text and how often it occurs; as many as statistics keep are given."""

    found: Counter[str] = field(default_factory=Counter)

    def add(self, column: Any) -> None:
        for one in pc.value_counts(column):
            self.found[one["values"].as_py().decode("utf-8", "replace")] += one["counts"].as_py()

    def values(self) -> Texts | None:
        counts = {name: float(count) for name, count in self.found.most_common(_TOP)}
        return Texts(self.found.total(), counts) if counts else None


_TOP = 1000
"""So many of the most frequent texts are in statistics."""


class _Numbers:
    """How many numbers are at most each edge."""

    def __init__(self, kind: str, edges: Any) -> None:
        self.kind = kind
        self.edges = edges
        self.counts = np.zeros(len(edges) + 1, np.int64)
        self.largest = -np.inf

    def add(self, column: Any) -> None:
        numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers = numbers[~np.isnan(numbers)]
        if numbers.size:
            places = np.searchsorted(self.edges, numbers, side="left")
            self.counts += np.bincount(places, minlength=len(self.counts))
            self.largest = max(self.largest, float(numbers.max()))

    def values(self) -> Numbers | None:
        total = int(self.counts.sum())
        if not total:
            return None
        edges = np.append(self.edges, max(self.largest, np.nextafter(self.edges[-1], np.inf)))
        return Numbers(total, edges, np.cumsum(self.counts) / total, self.kind)
