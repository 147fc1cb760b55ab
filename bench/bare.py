"""The hand-written script: what it takes to train the taxi model without any pipeline.

    python -m bench.bare --csv FILE --export DIR (--steps 1000 --batch 40 | --epochs 1 --batch 1024)

It reads the same columns of the CSV, splits rows 7 : 1 : 2, prepares the same features, trains the same network, judges it
on the same share of rows and exports a SavedModel that takes the raw features: by columns, in memory, each thing once. It has
no schema, no statistics, no validation, no lineage, no slices, no gates, no cache; what cannot be read is a traceback.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import tensorflow as tf
import tf_keras

from bench.quality import quality

__all__ = ["Preprocessing", "Table", "build_model", "export", "fit_preprocessing", "main", "read", "train", "transform"]

AMOUNTS = {"log_fare": "fare", "log_miles": "trip_miles", "log_seconds": "trip_seconds"}
WHOLE = {
    "hour": ("trip_start_hour", 0, 23),
    "weekday": ("trip_start_day", 1, 7),
    "month": ("trip_start_month", 1, 12),
    "pickup_area": ("pickup_community_area", 0, 77),
    "dropoff_area": ("dropoff_community_area", 0, 77),
}
WORDS = {"payment": ("payment_type", 2), "taxi_company": ("company", 10)}
FARE_BUCKETS = 32
MISSING = "missing"
SHARES = (0.7, 0.8)
STEPS_PER_EXECUTION = 10
JUDGED_AT_ONCE = 8192

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Preprocessing:
    """What is learnt from the training rows before the model.

    Attributes:
        scale: mean and standard deviation of the logarithm, by feature.
        fares: upper bounds of all fare buckets but the last.
        words: by feature, those that are frequent enough; all others share one more number.
    """

    scale: dict[str, tuple[float, float]]
    fares: Floats
    words: dict[str, list[str]]

    def cardinalities(self) -> dict[str, int]:
        """Number of values of each coded feature, in order."""
        whole = {name: highest - lowest + 1 for name, (_, lowest, highest) in WHOLE.items()}
        return {"fare_bucket": FARE_BUCKETS, **whole, **{name: len(words) + 1 for name, words in self.words.items()}}


@dataclass(frozen=True)
class Table:
    """Prepared rows.

    Attributes:
        amounts: [rows, 3], in the order of `AMOUNTS`.
        codes: [rows, 8], in the order of `Preprocessing.cardinalities`.
        labels: [rows, 1], 0 or 1.
    """

    amounts: Floats
    codes: Codes
    labels: Floats

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Some of the rows."""
        return Table(self.amounts[chosen], self.codes[chosen], self.labels[chosen])


def main() -> None:
    """Command line. Prints one JSON line: when each stage began and ended, steps, rows per split, quality."""
    parser = argparse.ArgumentParser(description="Train the taxi model without a pipeline.")
    parser.add_argument("--csv", type=Path, required=True, help="the trips")
    parser.add_argument("--export", type=Path, required=True, help="folder for the SavedModel")
    parser.add_argument("--steps", type=int, help="training steps; without it whole epochs")
    parser.add_argument("--epochs", type=int, default=1, help="without --steps")
    parser.add_argument("--batch", type=int, default=40, help="rows per step")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tf_keras.utils.set_random_seed(arguments.seed)

    times = [time.time()]
    columns = read(arguments.csv)
    times.append(time.time())
    part = np.searchsorted(SHARES, np.random.default_rng(arguments.seed).random(len(columns)), side="right")
    prepared = fit_preprocessing(columns.filter(pa.array(part == 0)))
    table = transform(columns, prepared)
    learnt, judged = table.rows(part == 0), table.rows(part == 2)
    times.append(time.time())
    model = build_model(prepared.cardinalities())
    steps = arguments.steps or arguments.epochs * -(-len(learnt.labels) // arguments.batch)
    train(model, learnt, arguments.batch, steps)
    times.append(time.time())
    found = quality(judged.labels[:, 0].astype(np.int64), predict(model, judged))
    times.append(time.time())
    export(model, prepared, arguments.export)
    times.append(time.time())

    stages = ("read", "prepare", "train", "evaluate", "export")
    rows = {name: int(count) for name, count in zip(("train", "validate", "eval"), np.bincount(part), strict=True)}
    spans = {name: times[index : index + 2] for index, name in enumerate(stages)}
    print(json.dumps({"stages": spans, "steps": steps, "batch": arguments.batch, "rows": rows, "quality": found}))


def read(csv: Path) -> pa.Table:
    """The columns that the model needs."""
    words = {column: pa.dictionary(pa.int32(), pa.string()) for column, _ in WORDS.values()}
    numbers = ["tips", *AMOUNTS.values(), *(column for column, _, _ in WHOLE.values())]
    types = {**dict.fromkeys(numbers, pa.float32()), **words}
    options = pa.csv.ConvertOptions(include_columns=list(types), column_types=types, strings_can_be_null=True)
    return pa.csv.read_csv(csv, convert_options=options).unify_dictionaries().combine_chunks()


def fit_preprocessing(columns: pa.Table) -> Preprocessing:
    """Means, quantiles and vocabularies of the training rows."""
    logs = {name: np.log1p(np.maximum(_numbers(columns, column), 0)) for name, column in AMOUNTS.items()}
    quantiles = np.arange(1, FARE_BUCKETS) / FARE_BUCKETS
    return Preprocessing(
        {name: (float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))) for name, values in logs.items()},
        np.quantile(_numbers(columns, "fare"), quantiles).astype(np.float32),
        {name: _frequent(columns, column, least) for name, (column, least) in WORDS.items()},
    )  # fmt: skip


def transform(columns: pa.Table, prepared: Preprocessing) -> Table:
    """The rows as the model takes them."""
    fare = _numbers(columns, "fare")
    amounts = [
        (np.log1p(np.maximum(_numbers(columns, column), 0)) - mean) / deviation
        for (column, (mean, deviation)) in zip(AMOUNTS.values(), prepared.scale.values(), strict=True)
    ]
    whole = [
        np.clip(_numbers(columns, column, lowest), lowest, highest) - lowest
        for column, lowest, highest in WHOLE.values()
    ]
    words = [_codes(columns, column, prepared.words[name]) for name, (column, _) in WORDS.items()]
    codes: list[npt.NDArray[Any]] = [np.searchsorted(prepared.fares, fare, side="right"), *whole, *words]
    labels = (5 * np.round(_numbers(columns, "tips") * 100) > np.round(fare * 100)) & (fare > 0)
    return Table(
        np.stack(amounts, 1).astype(np.float32),
        np.stack([code.astype(np.int32) for code in codes], 1),
        labels.astype(np.float32)[:, None],
    )


def _numbers(columns: pa.Table, column: str, missing: float = 0) -> Floats:
    return np.asarray(columns[column].fill_null(missing).to_numpy(), np.float32)


def _frequent(columns: pa.Table, column: str, least: int) -> list[str]:
    encoded = columns[column].combine_chunks()
    counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(encoded.dictionary))
    found = dict(zip(encoded.dictionary.to_pylist(), counts.tolist(), strict=True))
    found[MISSING] = found.get(MISSING, 0) + encoded.null_count
    return sorted((word for word, count in found.items() if count >= least), key=lambda word: (-found[word], word))


def _codes(columns: pa.Table, column: str, words: list[str]) -> Codes:
    """The place of each value among the words; one more for any other."""
    encoded = columns[column].combine_chunks()
    place = {word: index for index, word in enumerate(words)}
    places = np.array([place.get(word, len(words)) for word in [*encoded.dictionary.to_pylist(), MISSING]], np.int32)
    return np.asarray(places[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()])


def build_model(cardinalities: Mapping[str, int], embedding: int = 8, dropout: float = 0.3) -> Any:
    """The network of `pipeline.models.taxi`, with its features in two tensors: amounts and codes."""
    layers = tf_keras.layers
    amounts = tf_keras.Input((len(AMOUNTS),), name="amounts")
    codes = tf_keras.Input((len(cardinalities),), name="codes", dtype=tf.int32)
    columns = [
        layers.Embedding(size, min(embedding, (size + 1) // 2))(codes[:, index])
        for index, size in enumerate(cardinalities.values())
    ]
    hidden = layers.Concatenate()([amounts, *columns])
    for units in (64, 32):
        hidden = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(hidden))
    model = tf_keras.Model([amounts, codes], layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        tf_keras.optimizers.Adam(0.001),
        "binary_crossentropy",
        metrics=[tf_keras.metrics.AUC(name="auc"), tf_keras.metrics.BinaryAccuracy(name="binary_accuracy")],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    return model


def train(model: Any, table: Table, batch: int, steps: int) -> None:
    """Trains so many steps, on rows in a new order in every epoch."""
    rows = len(table.labels)
    amounts, codes, labels = (tf.constant(value) for value in (table.amounts, table.codes, table.labels))

    def epoch(_: Any) -> tf.data.Dataset:
        order = tf.random.shuffle(tf.range(rows))
        return tf.data.Dataset.range(0, rows, batch).map(lambda first: order[first : first + batch])

    def gather(chosen: Any) -> Any:
        return (tf.gather(amounts, chosen), tf.gather(codes, chosen)), tf.gather(labels, chosen)

    epochs = -(-steps // -(-rows // batch))
    batches = tf.data.Dataset.range(epochs).flat_map(epoch).take(steps).map(gather, num_parallel_calls=tf.data.AUTOTUNE)
    model.fit(batches.prefetch(tf.data.AUTOTUNE), steps_per_epoch=steps, verbose=0)


def predict(model: Any, table: Table) -> Floats:
    """Probabilities, [rows]."""
    features = [table.amounts, table.codes]
    return np.asarray(model.predict(features, batch_size=JUDGED_AT_ONCE, verbose=0)[:, 0], np.float32)


def export(model: Any, prepared: Preprocessing, folder: Path) -> None:
    """Writes a SavedModel whose `serving_default` takes raw features by name, `[rows]` each."""
    servable = _Servable(tf_keras.Model(model.inputs, model.outputs), prepared)
    numbers = [*AMOUNTS.values(), *(column for column, _, _ in WHOLE.values())]
    specs = {column: tf.TensorSpec([None], tf.float32, name=column) for column in numbers}
    specs |= {column: tf.TensorSpec([None], tf.string, name=column) for column, _ in WORDS.values()}
    serving = tf.function(servable.predict, input_signature=[specs])
    tf.saved_model.save(servable, str(folder), signatures={"serving_default": serving})


class _Servable(tf.Module):
    """The preprocessing in TensorFlow, and the model."""

    def __init__(self, model: Any, prepared: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self._scale = {name: tuple(values) for name, values in prepared.scale.items()}
        self._fares = tf.constant(prepared.fares)
        self._tables = {name: _lookup(words) for name, words in prepared.words.items()}

    def predict(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        filled = {name: tf.where(tf.math.is_nan(raw[column]), 0.0, raw[column]) for name, column in AMOUNTS.items()}
        logs = {name: tf.math.log1p(tf.maximum(value, 0.0)) for name, value in filled.items()}
        amounts = tf.stack([(logs[name] - mean) / deviation for name, (mean, deviation) in self._scale.items()], 1)
        codes = [tf.searchsorted(self._fares, filled["log_fare"], side="right")]
        for column, lowest, highest in WHOLE.values():
            value = tf.where(tf.math.is_nan(raw[column]), float(lowest), raw[column])
            codes.append(tf.cast(tf.clip_by_value(value, lowest, highest), tf.int32) - lowest)
        codes += [self._tables[name].lookup(raw[column]) for name, (column, _) in WORDS.items()]
        return {"outputs": self.model([amounts, tf.stack(codes, 1)], training=False)}


def _lookup(words: list[str]) -> Any:
    keys = ["" if word == MISSING else word for word in words]
    table = tf.lookup.KeyValueTensorInitializer(keys, list(range(len(words))), tf.string, tf.int32)
    return tf.lookup.StaticHashTable(table, len(words))


if __name__ == "__main__":
    main()
