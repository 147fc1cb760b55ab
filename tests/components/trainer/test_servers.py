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

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.loop import Loop, build_under
from components.trainer.scope import Scope
from components.trainer.servers import Served
from components.trainer.tally import Tally
from schemas.errors import SatisficeError
from tests.components.trainer import trials
from tests.components.trainer.looped import BATCH, ROWS, fit, own_fit, small_model, some_rows, told_of
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
        rows, added = call(*args)
        return Answer((self.told(rows), [one.numpy() for one in added]))

    def join(self) -> None:
        """Nothing is on its way."""


def fitted(
    library: Any,
    coordinator: AtOnce,
    callbacks: list[Any],
    *,
    epochs: int = 3,
    in_train: bool = False,
    at_once: int = 2,
    averaged: bool = True,
) -> tuple[Any, Any]:
    """The model, and the curve."""
    library.backend.clear_session()
    model = small_model(library)
    model.optimizer.use_ema = averaged
    model.steps_per_execution = at_once
    scope = Scope(coordinator=coordinator, workers=1)
    train = some_rows(ROWS, 2)
    way = Served(library, model, scope, BATCH, lambda: small_model(library), train.element_spec)
    history = fit(Loop(library, model, way), callbacks, epochs=epochs, in_train=in_train)
    return model, history


@pytest.mark.parametrize(
    ("library", "in_train"), [(tf_keras, False), (tf_keras, True), (keras, True)], ids=["passes", "epochs", "keras3"]
)
def test_with_workers_in_order_it_is_keras_own_fit(library: Any, in_train: bool) -> None:
    """The same curve under the same names, the last batch a smaller one; callbacks hear of each step that is done."""
    other, expected = own_fit(library)
    told, coordinator = told_of(library), AtOnce()
    model, history = fitted(library, coordinator, [told], in_train=in_train)
    assert history.keys() == expected.keys() == {f"{v}{m}" for v in ("", "val_") for m in ("loss", "mse", "ones")}
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, abs=1e-6)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert coordinator.rows == [16, 16, 16, 13] * 3
    assert told.steps == [2, 4, 6, 8] * 3
    assert told.ends == ["epoch 0", "epoch 1", "epoch 2", "train"]


def test_each_worker_gets_several_calls_in_an_epoch() -> None:
    """However many steps one call may take: one call for all would leave every worker but one without work."""
    coordinator = AtOnce()
    fitted(tf_keras, coordinator, [], epochs=1, at_once=10)
    assert coordinator.rows == [32, 29]


def test_early_stopping_puts_the_best_weights_back() -> None:
    """On a metric of validation, which the chief reckons."""
    early = tf_keras.callbacks.EarlyStopping("val_ones", mode="min", patience=2, restore_best_weights=True)
    model, history = fitted(tf_keras, AtOnce(), [early], epochs=9, averaged=False)
    assert len(history["loss"]) == 3, "the number of ones never falls"
    first, _ = fitted(tf_keras, AtOnce(), [], epochs=1, averaged=False)
    for ours, theirs in zip(model.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_callback_can_end_an_epoch() -> None:
    """What was handed out is waited for, and the epoch is told of."""
    told, coordinator = told_of(tf_keras, stop=True), AtOnce()
    fitted(tf_keras, coordinator, [told], at_once=1)
    assert told.steps == [1, 2, 3, 4]
    assert told.ends == ["epoch 0", "train"]
    assert len(coordinator.rows) == 4, "as many as are on their way at once"


def test_a_worker_that_loses_rows_is_found_out() -> None:
    """Nobody goes on with a training that has not seen what it should have."""
    with pytest.raises(SatisficeError, match="trained on other rows than it was sent; expected 16 rows; got 15"):
        fitted(tf_keras, AtOnce(lambda rows: rows - 1), [])


def test_workers_that_write_between_lose_nothing_of_each_other() -> None:
    """Keras 3's metrics read, add and write back; each worker begins from zero, and the steps are counted as they come."""
    keras.backend.clear_session()
    model = small_model(keras)
    train = some_rows(ROWS, 2)
    build_under(None, model, train.element_spec)
    tally = Tally(keras, model)
    answers = [tf.function(tally.run)(model.train_step, batch) for batch in train.take(2)]
    assert not any(np.any(variable.numpy()) for metric in model.metrics for variable in metric.variables)
    for answer in reversed(answers):
        tally.add([one.numpy() for one in answer])
    tally.settle()
    assert float(model.get_metrics_result()["ones"]) == sum(int(np.sum(label)) for _, label in train.take(2))
    assert int(model.optimizer.iterations) == 2


def test_a_metric_that_is_not_a_sum_is_refused() -> None:
    """Nobody believes a figure of one worker."""

    class Last(keras.metrics.Metric):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="last")
            self.seen = self.add_variable((), "zeros", aggregation="mean", name="seen")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.seen.assign(keras.ops.mean(y_pred))

        def result(self) -> Any:
            return self.seen

    keras.backend.clear_session()
    model = small_model(keras)
    model.compile("sgd", "binary_crossentropy", metrics=[Last()])
    build_under(None, model, some_rows(ROWS, 2).element_spec)
    with pytest.raises(SatisficeError, match=r"last/seen: cannot be added up .* expected aggregation: sum; got mean"):
        Tally(keras, model)


# --- a cluster --------------------------------------------------------------------------------------------------------

EVEN = "tests.resources.even_model"
TRAIN, HELD_OUT, EPOCHS = 1010, 500, 15
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


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one device has trained."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    trials.main(data, folder, {"epochs": EPOCHS, "global_batch_size": 50, "strategy": "one_device"}, EVEN)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "lost"),
    [("tf_keras", ["ps-0", "trainer"]), ("keras3", ["worker-1", "chief-0"])],
    ids=["tf_keras", "keras3"],
)
def test_a_cluster_learns_what_one_device_learns_and_outlives_the_loss_of_any_member(
    backend: str, lost: list[str], data: Path, alone: Path, tmp_path: Path
) -> None:
    """A worker begins anew alone; without the chief or the weights all do, where the last epoch ended; and so does the
    next training where the Trainer itself is killed, with which its members die. Each row comes once in each epoch, of
    training and of validation, but for what a lost worker had not reported. What ships is what was trained.
    """
    chance = random.Random(6)
    folder, training = tmp_path / "out", {**MANY, "backend": backend, "steps_per_execution": 1}
    process = start(data, folder, **training)
    for name in lost:
        enough = epochs_kept(folder) + chance.randint(1, 2)
        until(lambda enough=enough: epochs_kept(folder) >= enough, of=process)
        if name == "trainer":
            process.kill()
            process.wait()
            until(lambda: not members(folder))
            process = start(data, folder, **training)
        else:
            os.kill(until(lambda name=name: members(folder).get(name)), signal.SIGKILL)
    found = ended(process, folder)

    plan = found["plan"]
    assert (plan["strategy"], plan["workers"], plan["parameter_servers"]) == ("parameter_server", 2, 1)
    after = lost[lost.index("trainer") + 1 :] if "trainer" in lost else lost
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
    assert area(alone) > 0.85
    assert area(folder) == pytest.approx(area(alone), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_a_cluster_begins_from_the_champion_and_computes_in_bfloat16(
    backend: str, data: Path, alone: Path, tmp_path: Path
) -> None:
    """The first epoch goes on where one device ended; what ships computes in float32."""
    champion = str(alone / "Format-Serving")
    more = {"backend": backend, "epochs": 1, "mixed_precision": "bfloat16", "warm_start": "champion"}
    folder = tmp_path / "out"
    found = ended(start(data, folder, **MANY, **more, base_model=champion), folder)
    assert found["plan"]["precision"] == "bfloat16"
    assert found["warm_start"]["variables"] == 2
    ended_at = record(alone)["history"]
    for figure in ("loss", "val_loss"):
        assert found["history"][figure][0] == pytest.approx(ended_at[figure][-1], abs=0.02)
        assert found["history"][figure][0] < ended_at[figure][0] - 0.02
    assert rows_of(found) == [TRAIN]
    assert area(folder) == pytest.approx(area(alone), abs=0.01)
