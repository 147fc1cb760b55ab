"""Small models that are saved as the Trainer saves them, as far as devices are concerned: the signature `transformed`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

SEED = 7


class _Module(tf.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model


def save(model: Any, folder: Path, dtypes: dict[str, Any]) -> Path:
    """Saves a Keras model that takes a dict of `[batch, …]` tensors of these types."""
    module = _Module(model)
    shapes = {name: tuple(tensor.shape)[1:] for name, tensor in model.input.items()}
    specs = {name: tf.TensorSpec([None, *shapes[name]], kind, name=name) for name, kind in sorted(dtypes.items())}

    @tf.function(input_signature=[specs])
    def transformed(features):
        return {"outputs": module.model(features, training=False)}

    tf.saved_model.save(module, str(folder), signatures={"transformed": transformed})
    return folder


def tabular(keras: ModuleType, folder: Path) -> Path:
    """Two real numbers and an integer, through an embedding and two layers, to a probability."""
    keras.utils.set_random_seed(SEED)
    inputs = {
        "number": keras.Input((1,), name="number", dtype="float32"),
        "pair": keras.Input((2,), name="pair", dtype="float32"),
        "word": keras.Input((1,), name="word", dtype="int64"),
    }
    embedded = keras.layers.Flatten()(keras.layers.Embedding(11, 4)(inputs["word"]))
    hidden = keras.layers.Concatenate()([inputs["number"], inputs["pair"], embedded])
    hidden = keras.layers.Dense(32, activation="relu")(hidden)
    hidden = keras.layers.Dense(32, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    return save(model, folder, {"number": tf.float32, "pair": tf.float32, "word": tf.int64})


def tabular_rows(count: int, seed: int = 0) -> dict[str, Any]:
    """Rows that `tabular` takes."""
    random = np.random.default_rng(seed)
    return {
        "number": random.normal(size=(count, 1)).astype(np.float32),
        "pair": random.normal(size=(count, 2)).astype(np.float32),
        "word": random.integers(0, 11, (count, 1)),
    }


def raw(keras: ModuleType, folder: Path, dtype: Any = tf.float32) -> Path:
    """The signature that takes raw columns, one value a row, with a preprocessing that devices have kernels for."""
    keras.utils.set_random_seed(SEED)
    fare = keras.Input((1,), name="fare", dtype="float32")
    module = _Module(keras.Model({"fare": fare}, keras.layers.Dense(1, activation="sigmoid")(fare)))

    @tf.function(input_signature=[{"fare": tf.TensorSpec([None], dtype, name="fare")}])
    def serving_default(given):
        value = tf.strings.to_number(given["fare"]) if dtype == tf.string else given["fare"]
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(value)), ["missing"])]):
            scaled = (tf.expand_dims(value, -1) - 12.0) / 7.0
        return {"outputs": module.model({"fare": scaled}, training=False)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})
    return folder


def image(keras: ModuleType, folder: Path) -> Path:
    """A convolution with batch normalization, for small images."""
    keras.utils.set_random_seed(SEED)
    pixels = keras.Input((8, 8, 1), name="pixels", dtype="float32")
    hidden = keras.layers.Conv2D(4, 3)(pixels)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.ReLU()(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    model = keras.Model({"pixels": pixels}, keras.layers.Dense(3, activation="softmax")(hidden))
    return save(model, folder, {"pixels": tf.float32})


def one_layer(keras: ModuleType, folder: Path, name: str, call: Any, dtype: Any = tf.float32) -> Path:
    """A layer of the given name that does something of its own to one number."""

    class Own(keras.layers.Layer):
        def call(self, inputs):
            return call(inputs)

    number = keras.Input((1,), name="number", dtype=dtype.name)
    model = keras.Model({"number": number}, keras.layers.Dense(1)(Own(name=name)(number)))
    return save(model, folder, {"number": dtype})
