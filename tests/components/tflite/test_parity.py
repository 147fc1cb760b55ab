"""How far a file is from its SavedModel: whole, per slice, and in classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.tflite.parity import parity, parity_per_slice


def test_differences_over_rows_and_outputs():
    """Largest and mean are of every output of every row."""
    found = parity(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([[0.2, 0.8], [0.3, 0.7]]))
    assert found.max_abs_difference == pytest.approx(0.3)
    assert found.mean_abs_difference == pytest.approx(0.15)
    assert (found.class_agreement, found.rows) == (0.5, 2)


def test_what_is_no_probability_has_no_class():
    """A regression agrees on no class, whatever it says."""
    assert parity(np.array([[2.0], [0.1]]), np.array([[2.1], [0.1]])).class_agreement is None


def test_each_slice_has_its_own():
    """One bad slice shows, however good the whole is."""
    reference, answers = np.full((100, 1), 0.4), np.full((100, 1), 0.4)
    answers[:2] = 0.9
    found = parity_per_slice(reference, answers, {"bad": np.arange(2), "rest": np.arange(2, 100), "none": np.arange(0)})
    assert found["bad"].class_agreement == 0
    assert found["rest"].max_abs_difference == 0
    assert "none" not in found


def test_nan_is_not_hidden():
    """A maximum that ignores NaN would pass a broken file."""
    found = parity(np.array([[0.1], [0.2]]), np.array([[np.nan], [0.2]]))
    assert not found.max_abs_difference <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_order_of_the_figures(pairs):
    """0 <= mean, 99th percentile <= largest; equal answers agree."""
    reference, answers = (np.array([[pair[side]] for pair in pairs]) for side in (0, 1))
    found = parity(reference, answers)
    assert 0 <= found.mean_abs_difference <= found.max_abs_difference + 1e-12
    assert found.p99_abs_difference <= found.max_abs_difference + 1e-12
    same = parity(reference, reference)
    assert (same.max_abs_difference, same.class_agreement) == (0, 1)
