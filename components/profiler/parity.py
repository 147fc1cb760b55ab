"""Holds what a payload serves against what was trained, on the same rows: predictions, and the features behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.arrays import Array

__all__ = ["Parity", "Skew", "compare", "groups", "skew", "why_not_comparable"]


SKEW_TOLERANCE = 1e-5
"""Of a value's size, or absolute near 0: float32 gives 1e-7 in each step of a preprocessing, whichever way it is batched."""


@dataclass(frozen=True)
class Parity:
    """How far two sets of predictions are apart.

    Attributes:
        rows: their number.
        max_abs, mean_abs: difference over all rows and outputs, in the unit of the predictions.
        agreement: share of rows whose predicted class is the same; None where the predictions are of no class.
    """

    rows: int
    max_abs: float
    mean_abs: float
    agreement: float | None


@dataclass(frozen=True)
class Skew:
    """How far a feature is apart between training and serving.

    Attributes:
        feature: name of the transformed feature.
        share: of the rows that differ, 0 to 1.
        largest: difference; 1 for text that differs; NaN where a value is on one side alone.
    """

    feature: str
    share: float
    largest: float


def why_not_comparable(ours: Array, theirs: Array) -> str:
    """Why predictions cannot be compared, in words; "" where they can."""
    if len(ours) == 0:
        return "there are no rows to compare"
    if ours.shape != theirs.shape:
        return f"the predictions have the shapes {list(ours.shape)} and {list(theirs.shape)}"
    for found in (ours, theirs):
        if found.dtype.kind not in "fiub":
            return "the predictions are no numbers"
        odd = int((~np.isfinite(found.reshape(len(found), -1))).any(axis=1).sum())
        if odd:
            return f"{odd:,} of {len(found):,} predictions are NaN or infinite"
    flat = ours.reshape(len(ours), -1)
    if len(ours) > 1 and (flat == flat[0]).all():
        return f"all {len(ours):,} predictions are the same, so that agreeing says nothing"
    return ""


def compare(ours: Array, theirs: Array, rows: Array | None = None) -> Parity:
    """How far apart predictions are that can be compared.

    Args:
        ours, theirs: `[rows, ...]`, finite, of one shape.
        rows: indices of those that count, at least one; None for all.
    """
    classes = _classes(theirs)
    chosen = slice(None) if rows is None else rows
    mine, other = (np.asarray(found[chosen], np.float64).reshape(len(found[chosen]), -1) for found in (ours, theirs))
    apart = np.abs(mine - other)
    agreement = None if classes is None else float((classes(mine) == classes(other)).mean())
    return Parity(len(mine), float(apart.max()), float(apart.mean()), agreement)


def groups(columns: Sequence[Sequence[str | None]]) -> dict[tuple[str, ...], Array]:
    """The indices of the rows of each combination of values; a row that lacks one is in none.

    >>> {key: rows.tolist() for key, rows in groups([["a", "b", "a", None]]).items()}
    {('a',): [0, 2], ('b',): [1]}
    """
    found: dict[tuple[str, ...], list[int]] = {}
    for row, values in enumerate(zip(*columns, strict=True)):
        key = tuple(value for value in values if value is not None)
        if len(key) == len(values):
            found.setdefault(key, []).append(row)
    return {key: np.array(rows, np.int64) for key, rows in sorted(found.items())}


def skew(trained: Mapping[str, Array], served: Mapping[str, Array]) -> list[Skew]:
    """Each feature's difference between training and serving, the worst first.

    Args:
        trained: what Transform gave the trainer: feature to `[rows, ...]`.
        served: what the serving signature feeds the model, of the same rows.
    """
    found = [_skew(name, trained[name], served.get(name)) for name in trained]
    return sorted(found, key=lambda one: (-one.share, one.feature))


def _skew(feature: str, trained: Array, served: Array | None) -> Skew:
    if served is None or served.shape[0] != trained.shape[0] or served[:1].size != trained[:1].size:
        return Skew(feature, 1.0, float("nan"))
    mine, other = served.reshape(len(served), -1), trained.reshape(len(trained), -1)
    if mine.dtype.kind == "S" or other.dtype.kind == "S":
        differs = mine.astype(np.bytes_) != other.astype(np.bytes_)
        largest = float(differs.any())
    else:
        mine, other = mine.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.abs(mine - other)
        both_missing = np.isnan(mine) & np.isnan(other)
        apart = np.where(both_missing | (mine == other), 0.0, apart)
        differs = ~(apart <= SKEW_TOLERANCE * np.fmax(np.abs(other), 1.0))  # NaN on one side differs
        largest = float(apart.max(initial=0.0))
    return Skew(feature, float(differs.any(axis=1).mean()) if len(mine) else 0.0, largest)


def _classes(predictions: Array) -> Callable[[Array], Array] | None:
    """What makes classes of predictions: the largest of several outputs, or the half that one probability is in."""
    width = predictions[:1].size
    if width > 1:
        return lambda found: found.argmax(axis=1)
    if predictions.min() >= 0 and predictions.max() <= 1:
        return lambda found: found[:, 0] >= 0.5
    return None
