"""A model that was trained on is as small as was asked for, or there is an error; its arguments stay what they were."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer import compress as module
from components.trainer.compress import compress, compression_of, wanted
from schemas.config import ClusteringConfig, PruningConfig, TFLiteConfig
from schemas.errors import SatisficeError

QUANTIZED = TFLiteConfig(quantization_aware=True)
PRUNED = TFLiteConfig(pruning=PruningConfig(final_sparsity=0.75))
CLUSTERED = TFLiteConfig(clustering=ClusteringConfig(clusters=4))


def model(library=tf_keras):
    library.utils.set_random_seed(3)
    inputs = {
        "number": library.Input((1,), name="number"),
        "word": library.Input((1,), name="word", dtype="int64"),
    }
    embedded = library.layers.Flatten()(library.layers.Embedding(5, 3)(inputs["word"]))
    hidden = library.layers.Concatenate()([inputs["number"], embedded])
    hidden = library.layers.Dense(16, activation="relu")(hidden)
    made = library.Model(inputs, library.layers.Dense(1, activation="sigmoid")(hidden))
    made.compile(library.optimizers.Adam(0.01), "binary_crossentropy", metrics=[library.metrics.AUC(name="auc")])
    return made


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    number = random.normal(size=(320, 1)).astype(np.float32)
    features = {"number": number, "word": random.integers(0, 5, (320, 1))}
    return tf.data.Dataset.from_tensor_slices((features, (number > 0).astype(np.int64))).batch(32)


@pytest.fixture(scope="module")
def trained(rows):
    """Weights of the model after a few epochs."""
    made = model()
    made.fit(rows, epochs=3, verbose=0)
    return made.get_weights()


def fresh(trained):
    made = model()
    made.set_weights(trained)
    return made


@pytest.mark.parametrize("config", [QUANTIZED, PRUNED, CLUSTERED], ids=["quantized", "pruned", "clustered"])
def test_it_takes_and_gives_what_it_did(config, rows, trained):
    """Arguments by name, one probability, and metrics on the validation split before and after."""
    small = compress(tf_keras, fresh(trained), config, rows, rows, epochs=3)
    assert set(small.model.input) == {"number", "word"}
    answers = small.model.predict({"number": np.zeros((2, 1), np.float32), "word": np.zeros((2, 1), int)}, verbose=0)
    assert answers.shape == (2, 1)
    assert set(small.record["before"]) == set(small.record["after"]) == {"val_loss", "val_auc"}
    assert small.record["after"]["val_auc"] > 0.8
    assert small.record["epochs"] == 2


def test_the_sparsity_is_in_the_weights(rows, trained):
    """Three quarters of the weights of the layers are zero, in a training far shorter than 100 steps."""
    small = compress(tf_keras, fresh(trained), PRUNED, rows, rows, epochs=3)
    kernels = [layer.kernel.numpy() for layer in small.model.layers if type(layer).__name__ == "Dense"]
    zeros, all_of_them = sum((kernel == 0).sum() for kernel in kernels), sum(kernel.size for kernel in kernels)
    assert zeros / all_of_them == pytest.approx(small.record["sparsity"], abs=1e-4)
    assert small.record["sparsity"] >= 0.745


def test_a_training_that_did_not_prune_is_an_error(rows, trained, monkeypatch):
    """The library's own frequency of 100 steps never comes: nothing is pruned, and nobody says so."""
    monkeypatch.setattr(module, "_PRUNED_BY", 1000)
    with pytest.raises(SatisficeError, match=r"a sparsity of 0\.0\d\d was reached in 20 steps; expected 0\.750"):
        compress(tf_keras, fresh(trained), PRUNED, rows, rows, epochs=3)


def test_layers_share_their_values(rows, trained):
    """Four at most in each."""
    small = compress(tf_keras, fresh(trained), CLUSTERED, rows, rows, epochs=3)
    kernels = [layer.kernel.numpy() for layer in small.model.layers if type(layer).__name__ == "Dense"]
    assert all(len(np.unique(kernel)) <= 4 for kernel in kernels)
    assert all(count <= 4 for count in small.record["values"].values())


def test_layers_that_do_not_quantize_are_left_as_they_are(rows, trained):
    """Embeddings and integers; the others hold the ranges of their activations."""
    small = compress(tf_keras, fresh(trained), QUANTIZED, rows, rows, epochs=3)
    assert len([name for name in small.record["layers"] if name.startswith("dense")]) == 2
    assert not any(name.startswith("embedding") for name in small.record["layers"])


def test_keras_3_is_refused(rows):
    """Clearly, and before anything is trained."""
    with pytest.raises(
        SatisficeError, match=r"need tf_keras.*got training\.backend with keras\..*Set training\.backend"
    ):
        compress(keras, model(keras), QUANTIZED, rows, rows, epochs=3)


def test_a_subclassed_model_is_refused(rows):
    """It has no layers that can be wrapped."""

    class Own(tf_keras.Model):
        def call(self, inputs):
            return inputs["number"]

    with pytest.raises(SatisficeError, match="a subclassed model has no layers that can be wrapped"):
        compress(tf_keras, Own(), PRUNED, rows, rows, epochs=3)


def test_a_model_without_such_layers_is_refused(rows):
    """What cannot be pruned is said."""
    number = tf_keras.Input((1,), name="number")
    bare = tf_keras.Model({"number": number}, tf_keras.layers.ReLU()(number))
    bare.compile("adam", "mse")
    only = rows.map(lambda features, label: ({"number": features["number"]}, label))
    with pytest.raises(SatisficeError, match="cannot be pruned: it has none of the layers Dense"):
        compress(tf_keras, bare, PRUNED, only, only, epochs=1)


def test_only_what_training_depends_on_is_part_of_its_key():
    """Two configurations that differ in their variants train the same model."""
    one, other = (TFLiteConfig(variants=names, quantization_aware=True) for names in (("int8",), ("float32", "int8")))
    assert compression_of(one) == compression_of(other)
    assert not wanted(TFLiteConfig(variants=("int8",)))
    assert compression_of(TFLiteConfig(variants=("int8",))) is None
    assert compression_of(None) is None


def test_the_environment_is_left_alone(rows, trained, monkeypatch):
    """Importing the library chooses the Keras of TensorFlow's alias for whoever comes after; here it does not."""
    import os

    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    compress(tf_keras, fresh(trained), CLUSTERED, rows, rows, epochs=1)
    assert "TF_USE_LEGACY_KERAS" not in os.environ
