"""A model whose last layer does not fit its label is told so, before any metric fails on it."""

from __future__ import annotations

import numpy as np
import pytest

from components.evaluator.answers import check_answers, why_ill
from schemas.errors import UserModuleError


def answers(*shape: int) -> np.ndarray:
    return np.full(shape, 0.25, np.float32)


@pytest.mark.parametrize(
    ("label", "given"),
    [
        (np.array([[141.5], [7.0]]), answers(2, 1)),
        (np.array([[0], [2]]), answers(2, 3)),
        (np.array([[0.0], [2.0]]), answers(2, 3)),
        (answers(2, 3), answers(2, 3)),
        (answers(0, 1), answers(0, 3)),
        (np.array([[b"a"], [b"b"]], object), answers(2, 1)),
    ],
)
def test_what_fits(label: np.ndarray, given: np.ndarray) -> None:
    """A value for a value, as many as there are, or a value for each class and the number of one."""
    check_answers({"": label}, {"": given})


@pytest.mark.parametrize(
    ("label", "given", "words"),
    [
        (
            np.array([[141.0], [1.0], [0.5]]),
            answers(3, 3),
            "build_model: answers 3 values for each row, and the label has 1 value; expected one value in the last layer, "
            "or the number of a class, 0 to 2, for a label; got 2 labels such as 141",
        ),
        (np.array([[3], [7], [0]]), answers(3, 3), "got 2 labels such as 3"),
        (np.array([[-1], [0], [-1]]), answers(3, 3), "got 2 labels such as -1"),
        (np.array([[np.inf], [0], [1]]), answers(3, 3), "got 1 labels such as inf"),
        (np.array([[np.nan], [0]]), answers(2, 3), "got 1 labels such as nan"),
        (
            answers(2, 4),
            answers(2, 1),
            "answers 1 value for each row, and the label has 4 values; expected 4 values in",
        ),
        (np.array([[b"a"], [b"b"]], object), answers(2, 2), "the number of a class, 0 to 1, for a label; got text"),
    ],
)
def test_what_does_not_fit(label: np.ndarray, given: np.ndarray, words: str) -> None:
    """Both sides are said, and what to change."""
    with pytest.raises(UserModuleError) as caught:
        check_answers({"candidate": label}, {"candidate": given})
    assert str(caught.value).startswith("the model candidate: 1 fault:")
    assert words in str(caught.value)


@pytest.mark.parametrize("unknown", [3, -1])
@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_a_class_that_a_model_does_not_know(unknown: int, kind: type, caplog: pytest.LogCaptureFixture) -> None:
    """Is newer than the champion, with which a candidate is compared all the same; what a metric fails on is a fault."""
    label = np.array([[0], [unknown], [2]], kind)
    check_answers({"champion": label}, {"champion": answers(3, 3)})
    assert f"1 of 3 labels are of no class of the 3 that a model knows, such as {unknown}" in caplog.text
    with pytest.raises(UserModuleError, match=f"got 1 labels such as {unknown}"):
        check_answers({"champion": label}, {"champion": answers(3, 3)}, all_classes_known=True)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.array([[1.0], [np.nan], [np.inf]], np.float32), "so are 2 labels, as preprocessing_fn gives them"),
        (np.array([[1.0, np.nan], [np.nan, np.nan]]), "so are 2 labels"),
        (np.array([[1.0], [0.0]]), "its training diverged"),
        (np.array([[1], [0]]), "its training diverged"),
    ],
)
def test_why_answers_are_no_numbers(label: np.ndarray, words: str) -> None:
    """A label that is none is no fault of the training."""
    assert why_ill(label).startswith(words)
