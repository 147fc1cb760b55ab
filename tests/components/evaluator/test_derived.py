"""Confusion matrices in arrays are TFMA's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(any)
HISTOGRAMS = st.dictionaries(st.integers(0, 10_001), COUNTS, max_size=30)
THRESHOLDS = st.one_of(
    st.none(),
    st.lists(st.floats(-0.5, 1.5, width=32), min_size=2, max_size=6, unique=True).map(sorted),
)


def computation(thresholds):
    """TFMA's function, and the key of the histogram that it works on."""
    from tensorflow_model_analysis.metrics import binary_confusion_matrices

    if thresholds is None:
        made = binary_confusion_matrices.binary_confusion_matrices(num_thresholds=10_000)
    else:
        made = binary_confusion_matrices.binary_confusion_matrices(thresholds=thresholds, use_histogram=True)
    return made[-1].result, made[0].keys[0]


def buckets(histogram):
    from tensorflow_model_analysis.metrics.calibration_histogram import Bucket

    return [Bucket(one, float(p), 0.5 * (p + n), float(p + n)) for one, (p, n) in sorted(histogram.items())]


def in_columns(key, histogram):
    from components.evaluator.columnar import Buckets

    sums = np.zeros((3, 10_002))
    for one in buckets(histogram):
        sums[:, one.bucket_id] = one.weighted_examples, one.weighted_labels, one.weighted_predictions
    return Buckets(key, sums)


@given(HISTOGRAMS, THRESHOLDS)
def test_matrices_are_tfma_s(histogram, thresholds):
    """Whatever the thresholds, and whichever bins hold rows."""
    from components.evaluator.derived import fast

    derive, key = computation(thresholds)
    metrics = {key: buckets(histogram)}
    quick = fast(derive, {key: []})
    assert quick is not derive
    (theirs,) = derive(metrics).items()
    columns = {key: in_columns(key, histogram)}
    for found in (quick(metrics), quick(columns)):
        (mine,) = found.items()
        assert mine[0] == theirs[0]
        for name in ("thresholds", "tp", "tn", "fp", "fn"):
            assert list(getattr(mine[1], name)) == getattr(theirs[1], name)


@given(HISTOGRAMS)
def test_a_histogram_in_columns_is_the_list_of_its_buckets(histogram):
    """For whoever asks for them one by one, as TFMA does."""
    columns = in_columns("key", histogram)
    assert list(columns) == columns.values() == buckets(histogram)
    assert len(columns) == len(histogram)
    assert [columns[index] for index in range(len(columns))] == buckets(histogram)


def test_what_is_not_known_or_not_equal_stays(monkeypatch):
    """Another function, one threshold, and a short cut that gives other figures."""
    from components.evaluator import derived

    def other(metrics):
        return metrics

    assert derived.fast(other, {}) is other
    derive, key = computation(None)
    metrics = {key: buckets({3: (1, 2), 9_000: (4, 0)})}
    monkeypatch.setattr(derived, "_EPSILON", 0.1)
    assert derived.fast(derive, metrics) is derive


@pytest.mark.parametrize("thresholds", [[0.5], [-1.0]])
def test_a_single_threshold_is_left_to_tfma(thresholds):
    """It costs nothing."""
    from components.evaluator.derived import fast

    derive, key = computation(thresholds)
    assert fast(derive, {key: []}) is derive
