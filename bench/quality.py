"""How good probabilities are, by their definitions: the same for every contender that does not say so itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["auc", "quality"]


def auc(labels: npt.NDArray[np.integer], scores: npt.NDArray[np.floating]) -> float:
    """The probability that a positive row has a higher score than a negative one, ties counting half; NaN for one class.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positive = labels > 0
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def quality(labels: npt.NDArray[np.integer], scores: npt.NDArray[np.floating]) -> dict[str, float]:
    """`auc`, `accuracy` at a threshold of 0.5, and `rows`: how many they are of."""
    accuracy = float(np.mean((scores > 0.5) == (labels > 0)))
    return {"auc": round(auc(labels, scores), 5), "accuracy": round(accuracy, 5), "rows": len(labels)}
