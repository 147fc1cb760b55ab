"""The state of a training: whole or not there, and a training that is taken up goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.fit import Course, Fitted, fit, seeded
from components.trainer.resume import Resume, State, key_of
from tests.components.trainer.test_fit import LAYOUT, build_model, training

both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
STATE = State(
    2, {"loss": [0.5, 0.25]}, True, {"wait": 1, "best": 0.25, "best_epoch": 1}, {"model": [np.eye(2)], "best": []}
)


def rows(epochs: range) -> tf.data.Dataset:
    """Ten rows in batches of four, in an order that follows from the epoch."""

    def of_epoch(epoch: Any) -> tf.data.Dataset:
        generator = tf.random.stateless_normal([10, 2], [3, epoch])
        labels = tf.cast(generator[:, :1] > 0, tf.float32)
        return tf.data.Dataset.from_tensor_slices(({"x": generator}, labels)).batch(4)

    whole = tf.data.experimental.assert_cardinality(3 * len(epochs))
    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(of_epoch).apply(whole)


def run(folder: Path, config: Any, build: Any = build_model) -> Fitted:
    seeded(config)
    resume = Resume(folder)
    state = resume.load()
    course = Course(epochs_in_train=True, state=state, resume=resume)
    held_out = rows(range(100, 101))
    return fit(build, LAYOUT, {}, config, rows(range(state.epochs, config.epochs)), held_out, 10, course)


class KilledError(Exception):
    """Stands for a kill."""


def run_until(folder: Path, config: Any, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains until the state of an epoch is written."""
    save = Resume.save

    def save_and_die(self: Resume, state: State) -> None:
        save(self, state)
        if state.epochs == epoch:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Resume, "save", save_and_die)
        with pytest.raises(KilledError):
            run(folder, config)


@both
@pytest.mark.parametrize("early", [None, {"metric": "val_loss", "patience": 2}], ids=["whole", "early stopping"])
def test_a_training_that_is_taken_up_goes_on_as_if_nothing_had_been(
    backend: str, early: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, optimizer, curve and what early stopping had seen; each epoch has the rows that it would have had."""
    config = training(backend=backend, epochs=6, early_stopping=early)
    undisturbed = run(tmp_path / "undisturbed", config)
    run_until(tmp_path / "killed", config, 3, monkeypatch)
    found = run(tmp_path / "killed", config)
    assert found.resumed_at == 3
    assert found.history.keys() == undisturbed.history.keys()
    for name, values in undisturbed.history.items():
        assert found.history[name] == pytest.approx(values, abs=1e-6)
    for one, other in zip(found.model.get_weights(), undisturbed.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert found.as_record()["resumed_at_epoch"] == 3


@both
def test_a_training_that_had_stopped_is_not_trained_on(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping had ended it, and the kill came before the model was saved."""
    config = training(backend=backend, epochs=9, early_stopping={"metric": "val_loss", "patience": 0, "mode": "max"})
    undisturbed = run(tmp_path / "undisturbed", config)
    epochs = len(undisturbed.history["loss"])
    assert epochs < 9
    found = run(tmp_path / "undisturbed", config)
    assert found.history == undisturbed.history
    for one, other in zip(found.model.get_weights(), undisturbed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@both
@pytest.mark.parametrize("early", [None, {"metric": "val_loss", "patience": 9}], ids=["whole", "early stopping"])
def test_a_training_whose_epochs_are_done_is_not_trained_on(backend: str, early: Any, tmp_path: Path) -> None:
    """The kill came between the last epoch and the model that is saved."""
    config = training(backend=backend, epochs=3, early_stopping=early)
    undisturbed = run(tmp_path, config)
    found = run(tmp_path, config)
    assert found.resumed_at == 3
    assert found.history == undisturbed.history
    for one, other in zip(found.model.get_weights(), undisturbed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_state_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """Arrays, numbers and words; then it is gone."""
    resume = Resume(tmp_path / "state")
    assert resume.load() == State()
    resume.save(STATE)
    found = resume.load()
    assert (found.epochs, found.history, found.stopped, found.early) == (2, STATE.history, True, STATE.early)
    np.testing.assert_array_equal(found.arrays["model"][0], np.eye(2))
    assert found.arrays["optimizer"] == []
    assert [file.name for file in resume.folder.iterdir()] == ["state.npz"]
    resume.clear()
    assert not resume.folder.exists()
    resume.clear()


@pytest.mark.parametrize("length", [0, 10, 200])
def test_a_damaged_state_is_none(length: int, tmp_path: Path) -> None:
    """The training begins anew instead."""
    resume = Resume(tmp_path)
    resume.save(STATE)
    file = tmp_path / "state.npz"
    file.write_bytes(file.read_bytes()[:length])
    assert resume.load() == State()


def test_nothing_pickled_is_read(tmp_path: Path) -> None:
    """It could run code."""
    with (tmp_path / "state.npz").open("wb") as file:
        np.savez(file, about=np.array([{"epochs": 1}], dtype=object), allow_pickle=True)
    assert Resume(tmp_path).load() == State()


def test_a_training_has_a_name_of_its_own() -> None:
    """That follows from what it is made of."""
    assert key_of({"a": 1, "b": 2}, ["x"]) == key_of({"b": 2, "a": 1}, ["x"])
    assert key_of({"a": 1}, ["x"]) != key_of({"a": 1}, ["y"])
