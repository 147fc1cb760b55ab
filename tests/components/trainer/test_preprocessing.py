"""The transform graph as a function: as tf.Transform's own layer, of whatever it is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.preprocessing import Preprocessing
from tests.components.trainer.tiny import LABEL, RAW_SPEC, TRANSFORMED_SPEC, Tiny, example


@pytest.fixture(scope="module")
def preprocessing(tiny: Tiny) -> Preprocessing:
    return Preprocessing(tiny.transformed.transform_savedmodel_dir)


def parsed(names: set[str]) -> dict[str, Any]:
    spec = {name: form for name, form in RAW_SPEC.items() if name in names}
    return dict(tf.io.parse_example([example(index) for index in range(9)], spec))


def test_it_gives_what_the_layer_of_tf_transform_gives(tiny: Tiny, preprocessing: Preprocessing) -> None:
    """Of each feature, to the last bit."""
    raw = parsed(set(RAW_SPEC))
    expected = tiny.transformed.transform_features_layer()(raw)
    given = tf.function(lambda: preprocessing(raw, list(TRANSFORMED_SPEC)), autograph=False)()
    assert set(given) == set(expected) == set(TRANSFORMED_SPEC)
    for name, tensor in given.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_what_is_not_given_is_not_needed(tiny: Tiny, preprocessing: Preprocessing) -> None:
    """A feature is made of its own inputs alone, and those that are not its own may be missing."""
    whole = tf.function(lambda: preprocessing(parsed(set(RAW_SPEC)), ["sum"]), autograph=False)()
    part = tf.function(lambda: preprocessing(parsed({"one", "flat"}), ["sum"]), autograph=False)()
    assert list(part) == ["sum"]
    np.testing.assert_array_equal(part["sum"], whole["sum"])


def test_what_a_feature_is_made_of(preprocessing: Preprocessing) -> None:
    """What the graph takes for it, and no more."""
    assert preprocessing.inputs_of({"pair"}) == {"pair"}
    assert preprocessing.inputs_of({"sum", "letters"}) == {"one", "flat", "word"}
    assert preprocessing.inputs_of({LABEL}) == {"target", "answer"}
    assert preprocessing.inputs_of(set()) == set()
    assert preprocessing.made_of("pair") == {"pair"}
    assert preprocessing.made_of(LABEL) == {"target", "answer"}


def test_the_graph_may_come_with_its_functions_wrapped(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some versions of tf.Transform save it."""
    function = tf.saved_model.load(tiny.transformed.transform_savedmodel_dir).transform_fn
    bare = function.concrete_functions[0] if hasattr(function, "concrete_functions") else function
    for form in (bare, SimpleNamespace(concrete_functions=[bare])):
        monkeypatch.setattr(tf.saved_model, "load", lambda _, form=form: SimpleNamespace(transform_fn=form))
        assert Preprocessing("folder").inputs_of({"pair"}) == {"pair"}
