"""What the trained model said, while it was in memory, of some rows: whoever serves it can be held against that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.arrays import Array, load_arrays, save_arrays

__all__ = ["REFERENCE_FILE", "REFERENCE_ROWS", "REFERENCE_SPLIT", "Reference", "read_reference", "write_reference"]

REFERENCE_FILE = "reference.npz"
"""In the Trainer's ModelRun, beside the training record."""

REFERENCE_SPLIT = "validate"
"""The rows are the first of this split: the Trainer sees none of `eval`."""

REFERENCE_ROWS = 2048

_FEATURE = "feature/"
_PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Reference:
    """The first rows of a split, as the model was given them, and its answers.

    Attributes:
        predictions: `[rows, ...]`.
        features: name of the transformed feature to `[rows, ...]`.
    """

    predictions: Array
    features: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """Their number."""
        return len(self.predictions)


def write_reference(model: Any, batches: Iterable[Any], folder: Path, rows: int = REFERENCE_ROWS) -> None:
    """Has the model answer the first rows, and keeps rows and answers.

    Args:
        model: trained, in memory.
        batches: of `(features, label)`, in the order of the split's records.
        folder: of the ModelRun.
        rows: how many at most.
    """
    predictions: list[Array] = []
    columns: dict[str, list[Array]] = {}
    left = rows
    for features, _ in batches:
        given = {name: tensor[:left] for name, tensor in features.items()}
        predictions.append(np.asarray(model(given, training=False)))
        for name, tensor in given.items():
            columns.setdefault(name, []).append(tensor.numpy())
        left -= len(predictions[-1])
        if left <= 0:
            break
    arrays = {f"{_FEATURE}{name}": np.concatenate(parts) for name, parts in columns.items()}
    save_arrays(folder / REFERENCE_FILE, arrays | {_PREDICTIONS: np.concatenate(predictions)})


def read_reference(folder: Path) -> Reference | None:
    """What `write_reference` wrote; None where it wrote nothing that can be read."""
    try:
        arrays = load_arrays(folder / REFERENCE_FILE)
    except (OSError, ValueError):
        return None
    predictions = arrays.pop(_PREDICTIONS)
    return Reference(predictions, {name.removeprefix(_FEATURE): array for name, array in arrays.items()})
