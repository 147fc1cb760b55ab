"""Percentiles, means and ratios of latencies with 95 % intervals, by a bootstrap over blocks of calls.

Calls that follow one another share what disturbs them, so that blocks are drawn, not calls. Two models' blocks are drawn
together: what slows the machine down slows both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["RESAMPLES", "Estimate", "mean", "paired_p50_ratio", "percentile", "percentile_ratio"]

Array = npt.NDArray[np.float64]

RESAMPLES = 400
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is.

    Attributes:
        value: of all calls.
        interval: 95 %; `value` lies in it.
    """

    value: float
    interval: tuple[float, float]

    @property
    def half_width(self) -> float:
        """Half the interval's width, as a share of the value; 0 where the value is 0."""
        low, high = self.interval
        return (high - low) / (2 * self.value) if self.value else 0.0


def percentile(blocks: Array, q: float, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The q-th percentile of all calls.

    Args:
        blocks: seconds, `[blocks, calls]`.
        q: 0 to 100.
        seed: of the draws.
        resamples: number of draws.
    """
    drawn = _draws(blocks, seed, resamples)
    return _estimate(float(np.percentile(blocks, q)), np.percentile(drawn, q, axis=1))


def mean(blocks: Array, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of all calls; arguments as for `percentile`."""
    return _estimate(float(blocks.mean()), _draws(blocks, seed, resamples).mean(axis=1))


def percentile_ratio(ours: Array, theirs: Array, q: float, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The q-th percentile of one model's calls over that of another's, from blocks that were measured in pairs.

    Args:
        ours, theirs: seconds, `[blocks, calls]`; block i of both was measured in the same turn.
        q: 0 to 100.
        seed: of the draws.
        resamples: number of draws.
    """
    above = np.percentile(_draws(ours, seed, resamples), q, axis=1)
    below = np.percentile(_draws(theirs, seed, resamples), q, axis=1)
    return _estimate(float(np.percentile(ours, q) / np.percentile(theirs, q)), above / below)


def paired_p50_ratio(ours: Array, theirs: Array, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """How much slower one model is in the typical turn: the median over turns of the ratio of the two blocks' medians.

    What disturbs a turn disturbs both blocks of it, and falls out; on a quiet machine it is the ratio of the medians of
    all calls. Arguments as for `percentile_ratio`.
    """
    ratios = np.median(ours, axis=1) / np.median(theirs, axis=1)
    drawn = _draws(ratios[:, np.newaxis], seed, resamples)
    return _estimate(float(np.median(ratios)), np.median(drawn, axis=1))


def _draws(blocks: Array, seed: int, resamples: int) -> Array:
    """As many blocks as there are, drawn with replacement: `[resamples, calls in all]`. Equal seeds draw equal blocks."""
    chosen = np.random.default_rng(seed).integers(len(blocks), size=(resamples, len(blocks)))
    return blocks[chosen].reshape(resamples, -1)


def _estimate(value: float, drawn: Array) -> Estimate:
    low, high = np.percentile(drawn, _LEVEL)
    return Estimate(value, (min(float(low), value), max(float(high), value)))
