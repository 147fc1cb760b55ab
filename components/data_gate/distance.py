"""How far the values of a feature are from those of another data set, from the statistics of both. Imports no TFX.

The measures are TFDV's: `jensen_shannon` is the Jensen-Shannon divergence to the base 2, `l_infinity` the largest
difference in the share of one value. So is what they are taken over for texts: the most frequent values. For numbers TFDV
interpolates between ten buckets of either side, and so finds 0.7 between two random halves of the taxi data, where one
long trip has stretched a bucket. Here both sides are counted in the same buckets, the tenths of the baseline, at whose
edges the fine quantiles of `components.statistics_gen.quantiles` know the counts of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["QUANTILES_STATISTIC", "Numbers", "Texts", "bucket_edges", "distance", "values_of"]

QUANTILES_STATISTIC = "satisfice.quantiles"
"""As `components.statistics_gen.quantiles` names it, which imports TFDV."""

_OUR_QUANTILES = 200
_THEIR_QUANTILES = 10
"""As many as there are in `components.statistics_gen.quantiles`, and in TFDV's statistics."""

_TENTHS = np.arange(1, 10) / 10
_QUANTILES_TYPE = 1
_NUMERIC = ("INT", "FLOAT")
"""By their numbers in `tensorflow_metadata`'s FeatureNameStatistics.Type."""

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """The values of a categorical feature.

    Attributes:
        count: number of values.
        counts: value to how often it occurs; the most frequent ones.
        type: in the schema's words.
    """

    count: int
    counts: dict[str, float]
    type: str = "BYTES"


@dataclass(frozen=True)
class Numbers:
    """The values of a numeric feature, by their cumulative distribution.

    Attributes:
        count: number of values, those that are NaN not counted.
        edges: ascending.
        below: of each edge, the share of the values that are not above it; the last is 1.
        type: in the schema's words, INT or FLOAT.
        between: no more than this share lies between two edges that follow one another; what is above an edge beyond
            that share is equal to the next.
    """

    count: int
    edges: Shares
    below: Shares
    type: str = "FLOAT"
    between: float = 1.0

    def up_to(self, x: Shares) -> Shares:
        """The share of the values that are at most `x`: exact at an edge; between two, of the values there."""
        found = np.searchsorted(self.edges, x, side="right") - 1
        low, high = np.clip(found, 0, None), np.clip(found + 1, None, len(self.edges) - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (x - self.edges[low]) / (self.edges[high] - self.edges[low])
        part = np.where(np.isfinite(part), part, 0.0)
        share = self.below[low] + np.clip(part, 0, 1) * np.minimum(self.below[high] - self.below[low], self.between)
        return np.where(found < 0, 0.0, share)

    def least(self) -> float:
        """The least of the values."""
        return float(self.edges[0])


def values_of(feature: Any) -> Texts | Numbers | None:
    """The values of a feature; None where it has none that can be compared.

    Args:
        feature: a `tensorflow_metadata` FeatureNameStatistics proto.
    """
    kind = feature.WhichOneof("stats")
    if kind == "string_stats":
        buckets = feature.string_stats.rank_histogram.buckets
        counts = {bucket.label: bucket.sample_count for bucket in buckets}
        return Texts(feature.string_stats.common_stats.num_non_missing, counts) if counts else None
    return _numbers(feature) if kind == "num_stats" else None


def _numbers(feature: Any) -> Numbers | None:
    ours = [one.histogram for one in feature.custom_stats if one.name == QUANTILES_STATISTIC]
    theirs = [one for one in feature.num_stats.histograms if one.type == _QUANTILES_TYPE]
    buckets = (ours + theirs)[0].buckets if ours or theirs else []
    total = round(sum(bucket.sample_count for bucket in buckets))
    if not total:
        return None
    edges: list[float] = []
    below: list[float] = []
    for bucket in buckets:  # of TFDV's own, which do not tell, the least value is taken for one of the first bucket
        edges.append(bucket.high_value)
        below.append((below[-1] if below else 0.0) + bucket.sample_count / total)
    if buckets[0].low_value < buckets[0].high_value:
        edges, below = [buckets[0].low_value, *edges], [0.0, *below]
    last = dict(zip(edges, below, strict=True))  # of equal edges, the share up to the last
    between = _between(total, 1 / (_OUR_QUANTILES if ours else _THEIR_QUANTILES))
    return Numbers(total, np.array(list(last)), np.array(list(last.values())), _NUMERIC[feature.type], between)


def _between(count: int, step: float) -> float:
    """The largest share between two quantiles that follow one another, with `step` from one to the next.

    A quantile is the least value up to which there are so many. So less than a step lies between two of them, and the
    rest of what is above the lower one is equal to the upper one.
    """
    return max(math.ceil(step * count) - 1, 0) / count


def distance(
    measure: Literal["jensen_shannon", "l_infinity"], now: Texts | Numbers, then: Texts | Numbers
) -> float | None:
    """The distance, 0 to 1; None where the measure is not defined for these values.

    Args:
        measure: its name.
        now: the values that are judged.
        then: the baseline, whose tenths are the buckets of numbers.
    """
    if isinstance(now, Texts) and isinstance(then, Texts):
        names = sorted({*now.counts, *then.counts})
        p, q = (_shares(values, names) for values in (now, then))
        return _jensen_shannon(p, q) if measure == "jensen_shannon" else float(np.abs(p - q).max())
    if isinstance(now, Numbers) and isinstance(then, Numbers) and measure == "jensen_shannon":
        edges = _tenths(then)
        return _jensen_shannon(_in_buckets(now, edges, then.least()), _in_buckets(then, edges, then.least()))
    return None


def _shares(values: Texts, names: list[str]) -> Shares:
    counts = np.array([values.counts.get(name, 0.0) for name in names])
    shares: Shares = counts / counts.sum()
    return shares


def _tenths(values: Numbers) -> Shares:
    """The edges of buckets that hold a tenth of the values each, fewer where one value is more than a tenth."""
    at = np.searchsorted(values.below, _TENTHS - 1e-9)
    edges: Shares = np.unique(np.append(values.edges[at], values.edges[-1]))
    return edges


def bucket_edges(then: Numbers) -> Shares:
    """Where `distance` asks how many numbers are at most that, with these as the baseline; ascending."""
    return np.unique(np.append(np.nextafter(then.least(), -np.inf), _tenths(then)))


def _in_buckets(values: Numbers, edges: Shares, least: float) -> Shares:
    """The share of the values in each bucket: below the baseline's least, up to each edge, above the last."""
    before = values.up_to(np.array([np.nextafter(least, -np.inf)]))
    cumulative = np.concatenate([[0.0], before, values.up_to(edges), [1.0]])
    shares: Shares = np.diff(np.maximum.accumulate(cumulative))
    return shares


def _jensen_shannon(p: Shares, q: Shares) -> float:
    middle = (p + q) / 2
    return float(np.clip((_divergence(p, middle) + _divergence(q, middle)) / 2, 0.0, 1.0))


def _divergence(p: Shares, q: Shares) -> float:
    """Kullback and Leibler's, in bits."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
