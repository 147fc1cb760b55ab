"""Confusion matrices at 10,000 thresholds from a histogram of predictions, which TFMA works out in loops, in arrays.

TFMA does it once per slice, model and sample, in 30 ms each; that is most of what an evaluation with AUC costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_model_analysis.metrics.binary_confusion_matrices import Matrices
from tensorflow_model_analysis.metrics.calibration_histogram import DEFAULT_NUM_BUCKETS

from components.evaluator.columnar import Buckets

__all__ = ["Derive", "fast"]

Metrics = dict[Any, Any]
Derive = Callable[[Metrics], Metrics]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_RESULT = "binary_confusion_matrices.<locals>.result"
_COUNTS = ("thresholds", "tp", "tn", "fp", "fn")
_EPSILON = 1e-7  # as TFMA's: half-open intervals are made to fit


def fast(derive: Derive, metrics: Metrics) -> Derive:
    """The same function of metrics, faster where it is TFMA's own of a histogram; else the one that is given.

    Args:
        derive: the `result` of a `DerivedMetricComputation`.
        metrics: what rows add up to; both must agree on it to the last bit before the faster one is taken.
    """
    settings = _settings(derive)
    if settings is None:
        return derive

    thresholds = settings["thresholds"]
    bins, count = _bins(thresholds)
    over = np.flatnonzero(np.array(thresholds) >= 1.0 + _EPSILON)

    def in_arrays(metrics: Metrics) -> Metrics:
        positive, negative = _rebinned(bins, count, metrics[settings["input_metric_key"]])
        return {settings["matrices_key"]: _matrices(thresholds, over, positive, negative)}

    return in_arrays if _same(derive(metrics), in_arrays(metrics)) else derive


def _same(one: Metrics, other: Metrics) -> bool:
    """Whether the matrices are equal to the last bit, whether they stand in lists or in arrays."""
    return one.keys() == other.keys() and all(
        np.array_equal(getattr(one[key], name), getattr(other[key], name)) for key in one for name in _COUNTS
    )


def _settings(derive: Derive) -> Mapping[str, Any] | None:
    """What TFMA's function closes over, where it is the one of many thresholds."""
    if getattr(derive, "__qualname__", "") != _RESULT:
        return None
    found = inspect.getclosurevars(derive).nonlocals
    known = {"thresholds", "matrices_key", "input_metric_key", "use_histogram"} <= found.keys()
    return found if known and found["use_histogram"] and len(found["thresholds"]) > 1 else None


def _matrices(thresholds: list[float], over: Ints, positive: Floats, negative: Floats) -> Matrices:
    """The matrices of positive and negative rows in each bin; `over` are the indices of the thresholds that no prediction exceeds."""
    offset = int(thresholds[0] >= 0 and len(positive) > 1)
    kept = slice(offset, offset + len(thresholds))
    tp, fp, fn, tn = (
        array[kept].copy() for array in (_above(positive), _above(negative), _below(positive), _below(negative))
    )
    for index in over.tolist():
        tp[index] = fp[index] = 0.0
        fn[index], tn[index] = tp[0], fp[0]
    # TFMA makes arrays of the lists that it declares; of ten thousand numbers that costs more than all the rest.
    return Matrices(thresholds, tp, tn, fp, fn)


def _fences(thresholds: list[float]) -> Floats:
    """Where the new bins begin: a prediction must be greater than a threshold, and is at least where its bin begins."""
    fences = [t + _EPSILON if t != 0 else t for t in thresholds]
    before = [-_EPSILON] if thresholds[0] >= 0 else []
    after = [1.0 + _EPSILON] if thresholds[-1] < 1.0 else []
    return np.array([*before, *fences, *after])


def _bins(thresholds: list[float]) -> tuple[Ints, int]:
    """The new bin of each of TFMA's buckets, and how many there are."""
    fences = _fences(thresholds)
    begins = np.arange(-1, DEFAULT_NUM_BUCKETS + 1) / DEFAULT_NUM_BUCKETS
    begins[0], begins[-1] = -np.inf, np.inf
    return np.maximum(np.searchsorted(fences, begins, side="right") - 1, 0), len(fences)


def _rebinned(bins: Ints, count: int, histogram: Sequence[Any]) -> tuple[Floats, Floats]:
    """Positive and negative rows in each of so many new bins."""
    if isinstance(histogram, Buckets):
        ids, labels, rows = np.arange(len(histogram.examples)), histogram.labels, histogram.examples
    else:
        ids = np.array([bucket.bucket_id for bucket in histogram], np.int64)
        labels = np.array([bucket.weighted_labels for bucket in histogram], np.float64)
        rows = np.array([bucket.weighted_examples for bucket in histogram], np.float64)
    bins = bins[np.minimum(ids, len(bins) - 1)]
    # Whole numbers where there are no rows.
    positive: Floats = np.bincount(bins, labels, count).astype(np.float64)
    total: Floats = np.bincount(bins, rows, count).astype(np.float64)
    return positive, total - positive


def _above(counts: Floats) -> Floats:
    return np.cumsum(counts[::-1])[::-1]


def _below(counts: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(counts)[:-1]])
