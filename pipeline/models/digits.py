"""Which digit is written here? A small convolutional network on images of 8 by 8 pixels, for devices above all.

Its weights are large enough for quantization, pruning and clustering to show, and it is trained in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf

from schemas.user_model import Feature

__all__ = ["Hyperparameters", "build_model", "preprocessing_fn"]

SIDE = 8
LABEL = "digit"
DIGITS = 10


@dataclass(frozen=True)
class Hyperparameters:
    """What `model.hyperparameters` may set; an unknown name is a TypeError.

    Attributes:
        filters: of each convolution.
        hidden_units: width of the layer before the last.
        dropout: share of its outputs that is dropped in training.
        learning_rate: of Adam.
    """

    filters: tuple[int, ...] = (32, 64)
    hidden_units: int = 128
    dropout: float = 0.3
    learning_rate: float = 0.001


def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """`pixels`, `[batch, 8, 8, 1]` between 0 black and 1 white, and the digit as it is."""
    images = tf.reshape(inputs["image"], [-1])
    values = tf.io.decode_raw(tf.io.decode_base64(images), tf.uint8, fixed_length=None)
    pixels = tf.reshape(tf.cast(values, tf.float32) / 255.0, [-1, SIDE, SIDE, 1])
    return {"pixels": pixels, LABEL: inputs[LABEL]}


def build_model(keras: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
    """A compiled model that returns one probability per digit, `[batch, 10]`."""
    settings = Hyperparameters(**hyperparameters)
    layers = keras.layers
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    hidden = inputs["pixels"]
    for filters in settings.filters:
        hidden = layers.Conv2D(filters, 3, padding="same", use_bias=False)(hidden)
        hidden = layers.BatchNormalization()(hidden)
        hidden = layers.ReLU()(hidden)
    hidden = layers.Flatten()(layers.MaxPooling2D()(hidden))
    hidden = layers.Dropout(settings.dropout)(layers.Dense(settings.hidden_units, activation="relu")(hidden))
    model = keras.Model(inputs, layers.Dense(DIGITS, activation="softmax", name=LABEL)(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="sparse_categorical_accuracy")],
    )
    return model
