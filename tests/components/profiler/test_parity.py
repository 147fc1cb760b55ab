"""Predictions and features held against each other: planted differences are found, in their size and by their name."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.profiler.parity import compare, groups, skew, why_not_comparable

PREDICTIONS = arrays.arrays(np.float32, st.tuples(st.integers(2, 9), st.just(1)), elements=st.floats(0, 1, width=32))


@given(PREDICTIONS)
def test_predictions_agree_with_themselves(predictions: np.ndarray) -> None:
    """Wholly."""
    found = compare(predictions, predictions)
    assert (found.rows, found.max_abs, found.mean_abs, found.agreement) == (len(predictions), 0.0, 0.0, 1.0)


def test_differences_of_probabilities() -> None:
    """The largest and the mean difference, and the share of rows on the same side of a half."""
    found = compare(np.array([[0.1], [0.6], [0.9], [0.4]]), np.array([[0.1], [0.4], [0.8], [0.4]]))
    assert found.max_abs == pytest.approx(0.2)
    assert found.mean_abs == pytest.approx(0.075)
    assert found.agreement == 0.75


def test_differences_of_several_classes() -> None:
    """Over all outputs; the class is the largest."""
    found = compare(np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]), np.array([[0.5, 0.2, 0.3], [0.6, 0.3, 0.1]]))
    assert found.max_abs == pytest.approx(0.3)
    assert found.mean_abs == pytest.approx(0.1)
    assert found.agreement == 0.5


def test_a_number_is_of_no_class() -> None:
    """What leaves 0 to 1 is no probability."""
    assert compare(np.array([[1.0], [250.0]]), np.array([[1.5], [250.0]])).agreement is None


def test_some_rows_alone() -> None:
    """Whether they predict classes follows from all of them."""
    ours, theirs = np.array([[0.5], [0.1], [30.0]]), np.array([[0.5], [0.2], [30.0]])
    found = compare(ours, theirs, np.array([0, 1]))
    assert (found.rows, found.agreement) == (2, None)
    assert found.max_abs == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (np.zeros((0, 1)), np.zeros((0, 1)), "there are no rows to compare"),
        (np.zeros((2, 1)), np.zeros((2, 2)), r"the predictions have the shapes \[2, 1\] and \[2, 2\]"),
        (np.array([["a"], ["b"]]), np.zeros((2, 1)), "the predictions are no numbers"),
        (np.array([[0.1], [np.nan], [np.inf]]), np.zeros((3, 1)), "2 of 3 predictions are NaN or infinite"),
        (np.array([[0.5]] * 3), np.array([[0.5]] * 3), "all 3 predictions are the same"),
        (np.array([[0.5], [0.6]]), np.array([[0.5], [0.7]]), "^$"),
    ],
)
def test_what_cannot_be_compared_is_told(ours: np.ndarray, theirs: np.ndarray, words: str) -> None:
    """A model that answers nothing, or one thing to everything, does not pass for one that agrees."""
    assert re.search(words, why_not_comparable(ours, theirs))


def test_groups_of_several_features() -> None:
    """A row that lacks one of them is in none."""
    found = groups([["a", "a", "b", None], ["1", "2", "1", "1"]])
    assert {key: rows.tolist() for key, rows in found.items()} == {("a", "1"): [0], ("a", "2"): [1], ("b", "1"): [2]}


def test_a_planted_skew_is_named_first() -> None:
    """With the share of the rows and the size; what is rounding is no skew."""
    trained = {
        "fare": np.array([[1.0], [2.0], [3.0], [4.0]], np.float32),
        "hour": np.array([[1], [2], [3], [4]]),
        "word": np.array([[b"x"], [b"y"], [b"z"], [b"x"]]),
        "noise": np.array([[100.0], [0.0], [np.nan], [1.0]]),
    }
    served = {
        "fare": trained["fare"] * np.float32(1.1),
        "hour": np.array([[1], [2], [3], [5]]),
        "word": np.array([[b"x"], [b"y"], [b"z"], [b"w"]]),
        "noise": np.array([[100.0005], [1e-7], [np.nan], [1.0]]),
    }
    found = skew(trained, served)
    assert [(one.feature, one.share) for one in found] == [
        ("fare", 1.0),
        ("hour", 0.25),
        ("word", 0.25),
        ("noise", 0.0),
    ]
    assert [one.largest for one in found[:3]] == pytest.approx([0.4, 1.0, 1.0])


def test_a_value_on_one_side_alone_is_skew() -> None:
    """So are a feature that is not served, and one of another width."""
    trained = {"gap": np.array([[1.0], [np.nan]]), "gone": np.ones((2, 1)), "wide": np.ones((2, 1))}
    found = {one.feature: one for one in skew(trained, {"gap": np.array([[1.0], [2.0]]), "wide": np.ones((2, 2))})}
    assert found["gap"].share == 0.5
    assert found["gone"].share == found["wide"].share == 1.0


@given(arrays.arrays(np.float64, (4, 2), elements=st.floats(-1e6, 1e6)))
def test_nothing_is_skewed_against_itself(values: np.ndarray) -> None:
    """Whatever it holds."""
    (found,) = skew({"x": values}, {"x": values})
    assert (found.share, found.largest) == (0.0, 0.0)
