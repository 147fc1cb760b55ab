"""How far a `.tflite` file's answers are from the SavedModel's on the same rows, on the whole and on each slice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Parity", "parity", "parity_per_slice"]

Array = npt.NDArray[Any]

K = TypeVar("K")

_THRESHOLD = 0.5


@dataclass(frozen=True)
class Parity:
    """Differences of answers, output by output, and of the classes that follow from them.

    Attributes:
        max_abs_difference, mean_abs_difference, p99_abs_difference: over rows and outputs, in the outputs' unit; NaN
            where an answer is none.
        class_agreement: share of the rows that are put into the same class: by the largest output, or by 0.5 where there
            is one output. None where one output does not lie between 0 and 1: then it is no probability.
        rows: their number.
    """

    max_abs_difference: float
    mean_abs_difference: float
    p99_abs_difference: float
    class_agreement: float | None
    rows: int

    def figures(self) -> dict[str, float | None]:
        """By the names that gates have for them."""
        return {
            "max_abs_difference": self.max_abs_difference,
            "mean_abs_difference": self.mean_abs_difference,
            "p99_abs_difference": self.p99_abs_difference,
            "class_agreement": self.class_agreement,
        }


def parity(reference: Array, predictions: Array) -> Parity:
    """Compares answers on the same rows.

    Args:
        reference: the SavedModel's, `[rows, outputs]`, at least one row.
        predictions: the file's, of the same shape.

    >>> parity(np.array([[0.2], [0.6]]), np.array([[0.2], [0.4]])).class_agreement
    0.5
    """
    difference = np.abs(predictions.astype(np.float64) - reference.astype(np.float64))
    return Parity(
        float(difference.max()),
        float(difference.mean()),
        float(np.quantile(difference, 0.99)),
        _agreement(reference, predictions),
        len(reference),
    )


def parity_per_slice(reference: Array, predictions: Array, slices: Mapping[K, Array]) -> dict[K, Parity]:
    """The same for each slice that has rows.

    Args:
        reference, predictions: as for `parity`.
        slices: indices of the rows in each.
    """
    return {key: parity(reference[rows], predictions[rows]) for key, rows in slices.items() if len(rows)}


def _agreement(reference: Array, predictions: Array) -> float | None:
    if reference.shape[1] > 1:
        return float((reference.argmax(axis=1) == predictions.argmax(axis=1)).mean())
    if reference.min() < 0 or reference.max() > 1:
        return None
    return float(((reference > _THRESHOLD) == (predictions > _THRESHOLD)).mean())
