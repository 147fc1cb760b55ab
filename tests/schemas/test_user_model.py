"""The contract of a user's module, as a type checker and a person read it."""

import dataclasses
import functools
import inspect
import json

import pytest

from schemas.user_model import BuildModel, Feature, PreprocessingFn, raised


def test_feature_is_frozen():
    """A model reads its features and does not change them."""
    feature = Feature("hour", "int64", (1,), cardinality=24)
    with pytest.raises(dataclasses.FrozenInstanceError):
        feature.cardinality = 25
    assert Feature("fare", "float32", (1,)).cardinality is None


def test_names_of_the_arguments():
    """The arguments' names are the contract: a user's functions are held against them."""
    assert list(inspect.signature(PreprocessingFn.__call__).parameters) == ["self", "inputs"]
    assert list(inspect.signature(BuildModel.__call__).parameters) == ["self", "keras", "features", "hyperparameters"]


def test_what_was_raised_names_the_line_of_the_users_own_file():
    """The last one there, however deep in a library the error came up."""

    def preprocess(inputs):
        return json.loads(inputs["text"])

    line = preprocess.__code__.co_firstlineno + 1
    for inputs, words in (({}, "raised KeyError: 'text'"), ({"text": "{"}, "raised JSONDecodeError: Expecting ")):
        with pytest.raises((KeyError, ValueError)) as caught:
            preprocess(inputs)
        told = raised(preprocess, caught.value)
        assert told.startswith(words)
        assert told.endswith(f"({__file__}, line {line})")
    assert raised(functools.partial(preprocess, {}), caught.value).startswith("raised JSONDecodeError")
    assert raised(preprocess, OSError("elsewhere")) == "raised OSError: elsewhere"
