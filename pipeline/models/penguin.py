"""Which of three species is a penguin? A small network on four measures, for the Palmer penguins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas.user_model import Feature

__all__ = ["Hyperparameters", "build_model", "preprocessing_fn"]

MEASURES = ("culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g")
LABEL = "species"
SPECIES = ("Adelie", "chinstrap", "gentoo")


@dataclass(frozen=True)
class Hyperparameters:
    """What `model.hyperparameters` may set; an unknown name is a TypeError.

    Attributes:
        hidden_units: width of each hidden layer.
        learning_rate: of Adam.
    """

    hidden_units: tuple[int, ...] = (16,)
    learning_rate: float = 0.01


def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Each measure scaled to mean 0 and variance 1 (`scaled_…`), and the label as it is: the index in `SPECIES`."""
    features = {f"scaled_{name}": tft.scale_to_z_score(inputs[name]) for name in MEASURES}
    return {**features, LABEL: inputs[LABEL]}


def build_model(keras: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
    """A compiled model that returns one probability per species, `[batch, 3]`."""
    settings = Hyperparameters(**hyperparameters)
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    hidden = keras.layers.Concatenate()(list(inputs.values()))
    for units in settings.hidden_units:
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(len(SPECIES), activation="softmax", name=LABEL)(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="sparse_categorical_accuracy")],
    )
    return model
