"""The penguin module: measures scaled, label untouched and out of the features, a model of three classes that learns."""

import importlib

import numpy as np
import pytest
import tensorflow_transform as tft

from components.trainer.inputs import layout_of
from pipeline.models import penguin
from schemas.user_model import Feature
from tests.pipeline.models.analysis import analyze, transform, type_specs

# a typical bird of each species, and the same one a tenth larger
BIRDS = [
    dict(zip((*penguin.MEASURES, penguin.LABEL), (*(scale * measure for measure in measures), species), strict=True))
    for scale in (1.0, 1.1)
    for species, measures in enumerate(
        [(39.0, 18.0, 190.0, 3700.0), (49.0, 18.0, 196.0, 3700.0), (47.0, 15.0, 217.0, 5100.0)]
    )
]
FEATURES = {f"scaled_{name}": Feature(f"scaled_{name}", "float32", (1,)) for name in penguin.MEASURES}


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    """The transform as learned from six birds."""
    return analyze(penguin.preprocessing_fn, "penguin", BIRDS, tmp_path_factory.mktemp("penguin"))


def test_measures_are_scaled_and_the_label_is_kept(analyzed):
    """Each measure has mean 0 and variance 1 over the rows that were analyzed; the label is the species' index."""
    values = transform(analyzed, "penguin", BIRDS)
    assert values.pop("species").tolist() == [[0], [1], [2], [0], [1], [2]]
    assert values.keys() == FEATURES.keys()
    for name, scaled in values.items():
        np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-5, err_msg=name)


def test_the_trainer_sees_four_numbers(analyzed):
    """The layout that the trainer reads from the transform is the one that these tests build models for."""
    assert layout_of(analyzed, penguin.LABEL).features == FEATURES


def test_the_label_feeds_itself_only():
    """No feature of the model, nor anything that tf.Transform learns from the data, depends on the species."""

    def features_only(inputs):
        return {name: value for name, value in penguin.preprocessing_fn(inputs).items() if name != penguin.LABEL}

    specs = type_specs("penguin")
    assert set(tft.get_transform_input_columns(features_only, specs)) == set(penguin.MEASURES)
    assert set(tft.get_analyze_input_columns(penguin.preprocessing_fn, specs)) == set(penguin.MEASURES)


@pytest.mark.parametrize("library", ["tf_keras", "keras"])
def test_the_model_learns(library):
    """Under either Keras: a compiled model that tells three well separated groups apart and returns probabilities."""
    keras = importlib.import_module(library)
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (240, 1))
    inputs = {
        name: (labels * (-1) ** i + random.normal(size=(240, 1)) / 4).astype("float32")
        for i, name in enumerate(FEATURES)
    }
    model = penguin.build_model(keras, FEATURES, {"hidden_units": [16], "learning_rate": 0.02})
    history = model.fit(inputs, labels, batch_size=32, epochs=8, verbose=0).history
    assert history["sparse_categorical_accuracy"][-1] > 0.95
    probabilities = model.predict(inputs, verbose=0)
    assert probabilities.shape == (240, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_an_unknown_hyperparameter_is_refused():
    """A misspelt name does not fall back to a default in silence."""
    keras = importlib.import_module("tf_keras")
    with pytest.raises(TypeError, match="hidden_unit'"):
        penguin.build_model(keras, FEATURES, {"hidden_unit": [4]})
