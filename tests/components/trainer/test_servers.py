"""Training with parameter servers: as one device learns, every row handed out once, and alive after any kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.scope import Scope
from components.trainer.servers import ServedModel
from schemas.errors import SatisficeError
from tests.components.trainer import trials
from tests.components.trainer.test_distributed import members, record, states, until
from tests.components.trainer.tiny import SCHEMA, example, write_transform_output

# --- the loop, with workers that answer at once -----------------------------------------------------------------------


class Answer:
    """What a worker says."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def fetch(self) -> Any:
        return self.value


class AtOnce:
    """A coordinator whose workers are this process; `told` makes of the rows what they report."""

    def __init__(self, told: Callable[[Any], Any] = lambda rows: rows) -> None:
        self.told = told
        self.rows: list[int] = []

    def schedule(self, call: Any, args: Any) -> Answer:
        self.rows.append(int(args[1].shape[0]))
        return Answer(self.told(call(*args)))

    def join(self) -> None:
        """Nothing is on its way."""


BATCH, ROWS = 8, 61


def some_rows(count: int, seed: int) -> tf.data.Dataset:
    values = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    labels = (values.sum(axis=1, keepdims=True) > 0.2).astype(np.int64)
    return tf.data.Dataset.from_tensor_slices(({"x": values}, labels)).batch(BATCH)


def small_model() -> Any:
    tf_keras.utils.set_random_seed(1)
    given = {"x": tf_keras.Input((3,), name="x")}
    model = tf_keras.Model(given, tf_keras.layers.Dense(1, activation="sigmoid")(given["x"]))
    metrics = [tf_keras.metrics.AUC(), tf_keras.metrics.TruePositives(thresholds=0.0, name="ones")]
    model.compile(tf_keras.optimizers.Adam(0.1), "binary_crossentropy", metrics=metrics)
    return model


class Told(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """Notes what Keras tells a callback."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.ends: list[str] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ends.append(f"epoch {epoch}")

    def on_train_end(self, logs: Any = None) -> None:
        self.ends.append("train")


def fitted(
    coordinator: AtOnce, callbacks: list[Any], *, epochs: int = 3, in_train: bool = False, **more: Any
) -> tuple[Any, Any]:
    """The model, and the curve."""
    tf_keras.backend.clear_session()
    model = small_model()
    model.steps_per_execution = more.get("at_once", 2)
    scope = Scope(coordinator=coordinator, workers=1)
    train = some_rows(ROWS, 2)
    steps = int(train.cardinality())
    history = ServedModel(tf_keras, model, scope, BATCH, small_model).fit(
        train.repeat(epochs) if in_train else train,
        validation_data=some_rows(21, 3),
        initial_epoch=0,
        epochs=epochs,
        steps_per_epoch=steps if in_train else None,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    return model, history.history


@pytest.mark.parametrize("in_train", [False, True])
def test_with_workers_in_order_it_is_keras_own_fit(in_train: bool) -> None:
    """The same curve under the same names, the last batch a smaller one; callbacks hear of each step that is done."""
    tf_keras.backend.clear_session()
    expected = small_model().fit(
        some_rows(ROWS, 2), validation_data=some_rows(21, 3), epochs=3, shuffle=False, verbose=0
    )
    told, coordinator = Told(), AtOnce()
    _, history = fitted(coordinator, [told], in_train=in_train)
    assert (
        history.keys() == expected.history.keys() == {f"{v}{m}" for v in ("", "val_") for m in ("loss", "auc", "ones")}
    )
    for name, values in expected.history.items():
        assert history[name] == pytest.approx(values, abs=1e-6)
    assert coordinator.rows == [16, 16, 16, 13] * 3
    assert told.steps == [2, 4, 6, 8] * 3
    assert told.ends == ["epoch 0", "epoch 1", "epoch 2", "train"]


def test_each_worker_gets_several_calls_in_an_epoch() -> None:
    """However many steps one call may take: one call for all would leave every worker but one without work."""
    coordinator = AtOnce()
    fitted(coordinator, [], epochs=1, at_once=10)
    assert coordinator.rows == [32, 29]


def test_early_stopping_puts_the_best_weights_back() -> None:
    """On a metric of validation, which the chief reckons."""
    early = tf_keras.callbacks.EarlyStopping("val_ones", mode="min", patience=2, restore_best_weights=True)
    model, history = fitted(AtOnce(), [early], epochs=9)
    assert len(history["loss"]) == 3, "the number of ones never falls"
    first, _ = fitted(AtOnce(), [], epochs=1)
    for ours, theirs in zip(model.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_callback_can_end_an_epoch() -> None:
    """What was handed out is waited for, and the epoch is told of."""

    class Stop(Told):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch)
            self.model.stop_training = True

    told, coordinator = Stop(), AtOnce()
    fitted(coordinator, [told], at_once=1)
    assert told.steps == [1, 2, 3, 4]
    assert told.ends == ["epoch 0", "train"]
    assert len(coordinator.rows) == 4, "as many as are on their way at once"


def test_a_worker_that_loses_rows_is_found_out() -> None:
    """Nobody goes on with a training that has not seen what it should have."""
    with pytest.raises(SatisficeError, match="trained on other rows than it was sent; expected 16 rows; got 15"):
        fitted(AtOnce(lambda rows: rows - 1), [])


# --- a cluster --------------------------------------------------------------------------------------------------------

EVEN = "tests.resources.even_model"
TRAIN, HELD_OUT, EPOCHS = 1010, 500, 20
MANY = {"strategy": "parameter_server", "workers": 2, "parameter_servers": 1, "global_batch_size": 50}


def labeled(count: int, seed: int) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Examples whose label follows from their features but for a good deal of chance."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 40, count)
    labels = (indices + rng.normal(0, 8, count) > 20).astype(np.int64)
    records = []
    for index, label in zip(indices, labels, strict=True):
        row = tf.train.Example.FromString(example(int(index)))
        row.features.feature["target"].int64_list.value[:] = [label]
        records.append(row.SerializeToString())
    return records, labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labeled")
    write_transform_output(folder)
    for split, count, seed in (("train", TRAIN, 1), ("validate", HELD_OUT, 2)):
        file = folder / f"Split-{split}" / "part-0"
        file.parent.mkdir()
        with tf.io.TFRecordWriter(str(file)) as writer:
            for one in labeled(count, seed)[0]:
                writer.write(one)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    return folder


def start(data: Path, folder: Path, **training: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.components.trainer.trials", str(data), str(folder)]
    with Path(f"{folder}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, json.dumps({"epochs": EPOCHS, **training}), EVEN],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )


def ended(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """The record of a training that ends well."""
    assert process.wait(300) == 0, Path(f"{folder}.log").read_text()[-3000:]
    return record(folder)


def answers(folder: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """What the exported model says of the validation rows, and what is true of them."""
    records, labels = labeled(HELD_OUT, 2)
    loaded = tf.saved_model.load(str(folder / "Format-Serving"))
    found = loaded.signatures["serving_examples"](examples=tf.constant(records))["outputs"]
    return found.numpy()[:, 0].astype(np.float64), labels


def area(folder: Path) -> float:
    """The share of pairs of a one and a zero that the model has in order, ties counted half."""
    scores, labels = answers(folder)
    ones, zeros = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return float(np.mean((ones > zeros) + 0.5 * (ones == zeros)))


def rows_of(found: dict[str, Any], prefix: str = "") -> list[int]:
    history = found["history"]
    return [int(ones + zeros) for ones, zeros in zip(history[f"{prefix}ones"], history[f"{prefix}zeros"], strict=True)]


def epochs_kept(folder: Path) -> int:
    for file in states(folder):
        with np.load(file) as arrays:
            return int(json.loads(str(arrays["about"]))["epochs"])
    return 0


@pytest.mark.slow
def test_a_cluster_learns_what_one_device_learns_and_outlives_the_loss_of_any_member(
    data: Path, tmp_path: Path
) -> None:
    """A worker begins anew alone; without the chief or the weights all do, where the last epoch ended; and so does the
    next training where the Trainer itself is killed, with which its members die. Each row comes once in each epoch, of
    training and of validation, but for what a lost worker had not reported. What ships is what was trained.
    """
    chance = random.Random(6)
    lost = ["worker-1", "ps-0", "chief-0", "trainer"]
    chance.shuffle(lost)
    folder, alone = tmp_path / "out", tmp_path / "alone"
    process = start(data, folder, **MANY, steps_per_execution=1)
    for name in lost:
        enough = epochs_kept(folder) + chance.randint(1, 2)
        until(lambda enough=enough: epochs_kept(folder) >= enough)
        if name == "trainer":
            process.kill()
            process.wait()
            until(lambda: not members(folder), within_s=10)
            process = start(data, folder, **MANY, steps_per_execution=1)
        else:
            os.kill(until(lambda name=name: members(folder).get(name)), signal.SIGKILL)
    found = ended(process, folder)

    plan = found["plan"]
    assert (plan["strategy"], plan["workers"], plan["parameter_servers"]) == ("parameter_server", 2, 1)
    after = lost[lost.index("trainer") + 1 :]
    assert found["restarts"] >= len({"ps-0", "chief-0"} & set(after)), "a group may begin anew once more: see the logs"
    assert found["restarts"] + found["replaced"] >= len(after)
    assert 0 < found["resumed_at_epoch"] < EPOCHS
    assert not list(states(folder))

    rows = rows_of(found)
    assert rows_of(found, "val_") == [HELD_OUT] * EPOCHS
    assert len(rows) == EPOCHS
    assert min(rows) == TRAIN
    assert max(rows) <= 2 * TRAIN, "what a lost worker had not reported comes again"
    assert rows.count(TRAIN) >= EPOCHS - 2

    scores, labels = answers(folder)
    loss = -np.mean(np.where(labels > 0, np.log(scores), np.log(1 - scores)))
    assert loss == pytest.approx(found["history"]["val_loss"][-1], abs=1e-6)
    trials.main(data, alone, {"epochs": EPOCHS, "global_batch_size": 50, "strategy": "one_device"}, EVEN)
    assert area(alone) > 0.85
    assert area(folder) == pytest.approx(area(alone), abs=0.01)
