"""Counters and histograms under TF Serving's names, as Prometheus reads them.

TF Serving's names begin with a colon, its counters do not end in `_total`, and it has no label for the version; the
label is added here. The client library of Prometheus can write neither of the first two.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LATENCY_BUCKETS_US", "Metrics"]

LATENCY_BUCKETS_US = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds in microseconds, as TF Serving has them: 10 us to 20 minutes."""

_BATCH_BUCKETS = tuple(float(2**power) for power in range(15))

_Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """All figures of one server. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[_Labels, int]] = {}
        self._gauges: dict[str, dict[_Labels, float]] = {}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {}

    def count(self, name: str, labels: Mapping[str, str], by: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            cells = self._counters.setdefault(name, {})
            key = tuple(labels.items())
            cells[key] = cells.get(key, 0) + by

    def gauge(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Sets a gauge."""
        with self._lock:
            self._gauges.setdefault(name, {})[tuple(labels.items())] = value

    def latency(self, name: str, labels: Mapping[str, str], microseconds: float) -> None:
        """Adds a duration to a histogram."""
        self._observe(name, labels, microseconds, LATENCY_BUCKETS_US)

    def size(self, name: str, labels: Mapping[str, str], number: int) -> None:
        """Adds a number of examples, or of requests in a batch, to a histogram."""
        self._observe(name, labels, number, _BATCH_BUCKETS)

    def _observe(self, name: str, labels: Mapping[str, str], value: float, bounds: tuple[float, ...]) -> None:
        key = tuple(labels.items())
        with self._lock:
            cells = self._histograms.setdefault(name, {})
            if key not in cells:
                cells[key] = _Histogram(bounds)
            cells[key].add(value)

    def value(self, name: str) -> int:
        """Sum of a counter over its labels; 0 where nothing was counted."""
        with self._lock:
            return sum(self._counters.get(name, {}).values())

    def page(self) -> str:
        """All of them in Prometheus' text format."""
        lines: list[str] = []
        with self._lock:
            for name, counts in sorted(self._counters.items()):
                lines.append(f"# TYPE {name} counter")
                lines += [f"{name}{_braces(labels)} {count}" for labels, count in counts.items()]
            for name, values in sorted(self._gauges.items()):
                lines.append(f"# TYPE {name} gauge")
                lines += [f"{name}{_braces(labels)} {value:.17g}" for labels, value in values.items()]
            for name, histograms in sorted(self._histograms.items()):
                lines.append(f"# TYPE {name} histogram")
                for labels, histogram in histograms.items():
                    lines += _lines_of(name, labels, histogram)
        return "\n".join(lines) + "\n"


def _lines_of(name: str, labels: _Labels, histogram: _Histogram) -> list[str]:
    lines, cumulated = [], 0
    for bound, count in zip([*histogram.bounds, None], histogram.counts, strict=True):
        cumulated += count
        edge = "+Inf" if bound is None else f"{bound:g}"
        lines.append(f"{name}_bucket{_braces((*labels, ('le', edge)))} {cumulated}")
    lines.append(f"{name}_sum{_braces(labels)} {histogram.total:.17g}")
    lines.append(f"{name}_count{_braces(labels)} {cumulated}")
    return lines


def _braces(labels: _Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
