"""The contract of a user's module, as a type checker and a person read it."""

import dataclasses
import inspect

import pytest

from schemas.user_model import BuildModel, Feature, PreprocessingFn


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
