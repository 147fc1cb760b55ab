"""How a raw request names features, so that TensorFlow takes the names as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.trainer.requests import request_names
from schemas.errors import DataError


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        ("fare", "fare"),
        ("Fare", "Fare"),
        ("mean radius", "mean_radius"),
        ("a.b-c/d", "a_b_c_d"),
        ("2nd", "f2nd"),
        ("_hidden", "f_hidden"),
        ("(x)", "f_x_"),
        ("größe", "gruf6udfe"),
        ("Ärger", "uc4rger"),
    ],
)
def test_a_name_that_tensorflow_would_not_take_is_changed(feature: str, name: str) -> None:
    """And no other."""
    assert request_names([feature]) == {feature: name}


@pytest.mark.parametrize("pair", [("mean radius", "mean_radius"), ("a.b", "a_b"), ("2nd", "f2nd")])
def test_two_features_of_one_name_are_refused(pair: tuple[str, str]) -> None:
    """Both are named, and the name that they would share."""
    with pytest.raises(DataError) as caught:
        request_names(["fare", *pair])
    assert str(caught.value) == (
        f"features {pair[0]!r} and {pair[1]!r}: would both be asked for as {request_names(pair[:1])[pair[0]]!r} "
        "by the serving signature. Rename one of the columns."
    )


@given(st.lists(st.text(min_size=1), unique=True, max_size=5))
def test_names_are_legal_and_different_or_refused(features: list[str]) -> None:
    """Whatever the columns are called, TensorFlow takes the names as they are."""
    from tensorflow.core.function.polymorphism import function_type

    try:
        names = request_names(features)
    except DataError:
        return
    assert list(names) == features
    assert len(set(names.values())) == len(features)
    assert [function_type.sanitize_arg_name(name) for name in names.values()] == list(names.values())
