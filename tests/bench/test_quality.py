"""AUC by its definition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.quality import auc, quality


def test_auc_is_that_of_scikit_learn():
    """Ties included."""
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 500), random.integers(0, 20, 500) / 20
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_one_class_has_no_auc():
    """It is not a number, rather than a good one."""
    assert np.isnan(auc(np.ones(3, np.int64), np.arange(3.0)))


def test_quality_counts_its_rows():
    """Accuracy at one half."""
    assert quality(np.array([0, 1, 1, 0]), np.array([0.2, 0.9, 0.4, 0.1])) == {"auc": 1.0, "accuracy": 0.75, "rows": 4}
