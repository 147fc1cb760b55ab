"""What the trained model said of some rows comes back as it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.trainer.reference import REFERENCE_FILE, read_reference, write_reference


class Tensor(np.ndarray):
    """An array that can be asked for its array, as TensorFlow's tensors can."""

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def batches(*sizes: int) -> list[Any]:
    rows = iter(range(sum(sizes)))
    return [({"x": np.array([[next(rows)] for _ in range(size)], np.float32).view(Tensor)}, None) for size in sizes]


def doubled(features: Any, training: bool) -> np.ndarray:
    assert not training
    return 2 * np.asarray(features["x"])


@pytest.mark.parametrize(("rows", "expected"), [(100, 7), (7, 7), (5, 5), (3, 3), (2, 2)])
def test_the_first_rows_are_kept(rows: int, expected: int, tmp_path: Path) -> None:
    """In their order, with the answers to them, whatever the batches are."""
    write_reference(doubled, batches(3, 3, 1), tmp_path, rows)
    found = read_reference(tmp_path)
    assert found is not None
    assert found.rows == expected
    assert found.features["x"].ravel().tolist() == list(range(expected))
    np.testing.assert_array_equal(found.predictions, 2 * found.features["x"])


def test_a_model_run_without_a_reference(tmp_path: Path) -> None:
    """Of an older trainer, or damaged: there is none, and nothing fails."""
    assert read_reference(tmp_path) is None
    (tmp_path / REFERENCE_FILE).write_bytes(b"half")
    assert read_reference(tmp_path) is None


def test_the_trainer_keeps_one(first_run: Any) -> None:
    """Of the `validate` split: as many rows as it has, and the model's answers, which are probabilities."""
    found = read_reference(first_run.uris["Trainer", "model_run"])
    assert found is not None
    assert 100 < found.rows < 400
    assert found.predictions.shape == (found.rows, 1)
    assert ((found.predictions > 0) & (found.predictions < 1)).all()
    assert len(np.unique(found.predictions)) > 10
    assert "log_fare" in found.features
    assert "big_tipper" not in found.features
