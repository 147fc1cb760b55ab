"""Will a rider tip more than 20 % of the fare? A small network on embeddings and logarithms, for the Chicago taxi trips.

Tips in cash are hardly ever recorded, so `payment_type` alone gives most of the answer; what is left to learn is who tips
how much by card. Nine of ten tips for card fares below $9 are whole dollars, mostly 2, so that their share of the fare
falls as the fare grows; hence a fine grid of fares beside its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas.user_model import Feature

__all__ = ["Hyperparameters", "big_tipper", "build_model", "preprocessing_fn"]

MISSING = "missing"
LABEL = "big_tipper"


@dataclass(frozen=True)
class Hyperparameters:
    """What `model.hyperparameters` may set; an unknown name is a TypeError.

    Attributes:
        hidden_units: width of each hidden layer.
        embedding_size: width of an embedding; a feature with few values gets half as many columns as values.
        dropout: share of a hidden layer's outputs that is dropped in training.
        learning_rate: of Adam.
    """

    hidden_units: tuple[int, ...] = (64, 32)
    embedding_size: int = 8
    dropout: float = 0.3
    learning_rate: float = 0.001


def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """The transformed features and the label; each is a `[batch, 1]` tensor. `tips` goes into the label only.

    A missing `trip_seconds` counts as 0, a missing area as area 0, a missing company as a company of its own.
    """
    fare = _dense(inputs["fare"])
    return {
        "log_fare": _log_z_score(fare),
        "log_miles": _log_z_score(_dense(inputs["trip_miles"])),
        "log_seconds": _log_z_score(_dense(inputs["trip_seconds"])),
        "fare_bucket": tft.bucketize(fare, num_buckets=32),
        "hour": _whole_number(inputs["trip_start_hour"], 0, 23),
        "weekday": _whole_number(inputs["trip_start_day"], 1, 7),
        "month": _whole_number(inputs["trip_start_month"], 1, 12),
        "pickup_area": _whole_number(inputs["pickup_community_area"], 0, 77),
        "dropoff_area": _whole_number(inputs["dropoff_community_area"], 0, 77),
        "payment": _vocabulary(inputs["payment_type"], "payment_type", frequency_threshold=2),
        "taxi_company": _vocabulary(inputs["company"], "company", frequency_threshold=10),
        LABEL: big_tipper(_dense(inputs["tips"]), fare),
    }


def big_tipper(tips: tf.Tensor, fare: tf.Tensor) -> tf.Tensor:
    """1 where the tip is more than 20 % of the fare, else 0 (int64); 0 too where fare or tip is missing or the fare is 0.

    Reckoned in whole cents: a tip of exactly 20 %, which is a button on the terminal, must not depend on rounding.
    """
    more = 5.0 * tf.round(tips * 100.0) > tf.round(fare * 100.0)  # NaN compares as False
    return tf.cast(tf.logical_and(fare > 0.0, more), tf.int64)


def build_model(keras: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
    """A compiled model: embeddings of what has a cardinality, beside the numbers, under a stack of dense layers."""
    settings = Hyperparameters(**hyperparameters)
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    columns = [_column(keras, inputs[name], feature, settings) for name, feature in features.items()]
    hidden = keras.layers.Concatenate()(columns)
    for units in settings.hidden_units:
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
        hidden = keras.layers.Dropout(settings.dropout)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name=LABEL)(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc"), keras.metrics.BinaryAccuracy(name="binary_accuracy")],
    )
    return model


def _column(keras: ModuleType, value: Any, feature: Feature, settings: Hyperparameters) -> Any:
    """`[batch, width]`: the embedding of an integer feature, or the number itself."""
    if feature.cardinality is None:
        return value
    width = min(settings.embedding_size, (feature.cardinality + 1) // 2)
    return keras.layers.Flatten()(keras.layers.Embedding(feature.cardinality, width)(value))


def _dense(value: Any, missing: Any = 0) -> tf.Tensor:
    """`[batch, 1]`, with `missing` where a row has no value."""
    if not isinstance(value, tf.SparseTensor):
        return value
    column = tf.SparseTensor(value.indices, value.values, [value.dense_shape[0], 1])
    return tf.sparse.to_dense(column, default_value=missing)


def _log_z_score(value: tf.Tensor) -> tf.Tensor:
    """The logarithm of one more than an amount, shifted and scaled to mean 0 and variance 1; amounts below 0 count as 0."""
    return tft.scale_to_z_score(tf.math.log1p(tf.maximum(tf.cast(value, tf.float32), 0.0)))


def _whole_number(value: Any, lowest: int, highest: int) -> tf.Tensor:
    """A whole number counted from 0; one out of range counts as the nearest in range, a missing one as `lowest`."""
    bounds = [[float(number) for number in range(lowest + 1, highest + 1)]]
    return tft.apply_buckets(_dense(value, missing=lowest), bucket_boundaries=bounds)


def _vocabulary(value: Any, name: str, frequency_threshold: int) -> tf.Tensor:
    """The number of a word among those seen often enough; all others share one more number."""
    words = _dense(value, missing=MISSING)
    return tft.compute_and_apply_vocabulary(
        words, frequency_threshold=frequency_threshold, num_oov_buckets=1, vocab_filename=name
    )
