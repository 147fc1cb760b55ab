"""The state of a training: whole or not there, and a training that is taken up goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer import resume as resume_module
from components.trainer.fit import Course, Fitted, fit, seeded
from components.trainer.preemption import Preemption
from components.trainer.resume import Resume, State, key_of
from tests.components.trainer.test_fit import LAYOUT, build_model, training

both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
STATE = State(
    2, 3, {"loss": [0.5, 0.25]}, True, {"wait": 1, "best": 0.25, "best_epoch": 1}, {"model": [np.eye(2)], "best": []}
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
    resume = Resume(folder, every_steps=config.checkpoint_every_steps)
    state = resume.load()
    course = Course(epochs_in_train=True, state=state, resume=resume, precision=precision_of(config))
    held_out = rows(range(100, 101))
    train = rows(range(state.epochs, config.epochs)).skip(state.step)
    return fit(build, LAYOUT, {}, config, train, held_out, 10, course)


def precision_of(config: Any) -> str:
    return config.mixed_precision or "float32"


class KilledError(Exception):
    """Stands for a kill."""


def run_until(
    folder: Path, config: Any, epoch: int, monkeypatch: pytest.MonkeyPatch, step: int = 0, build: Any = build_model
) -> None:
    """Trains until the state of an epoch, or of a step of the next one, is written."""
    save = Resume.save

    def save_and_die(self: Resume, state: State) -> None:
        save(self, state)
        if (state.epochs, state.step) == (epoch, step):
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Resume, "save", save_and_die)
        with pytest.raises(KilledError):
            run(folder, config, build)


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
@pytest.mark.parametrize(
    ("epoch", "step", "fields"),
    [
        (0, 1, {"early_stopping": {"metric": "val_loss", "patience": 2}}),
        (3, 2, {"early_stopping": {"metric": "val_loss", "patience": 2}}),
        (4, 2, {"mixed_precision": "float16", "checkpoint_every_steps": 2}),
    ],
    ids=["first epoch", "early stopping", "loss scale"],
)
def test_a_training_goes_on_within_an_epoch(
    backend: str, epoch: int, step: int, fields: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rows that are left of it; its figures are those of all its rows; so is the scale of the loss."""
    config = training(backend=backend, epochs=5, **{"checkpoint_every_steps": 1, **fields})

    def build(*arguments: Any) -> Any:
        return build_model(*arguments[:2], {"metrics": [lambda keras: keras.metrics.AUC(name="auc")]})

    undisturbed = run(tmp_path / "undisturbed", config, build)
    run_until(tmp_path / "killed", config, epoch, monkeypatch, step, build)
    state = Resume(tmp_path / "killed").load()
    assert (state.epochs, state.step) == (epoch, step)
    found = run(tmp_path / "killed", config, build)
    assert found.as_record()["resumed_at_step"] == step
    for name, values in undisturbed.history.items():
        assert found.history[name] == pytest.approx(values, abs=1e-6)
    for one, other in zip(found.model.get_weights(), undisturbed.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@both
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_an_epoch_takes_no_step_of_the_next(backend: str, at_once: int, tmp_path: Path) -> None:
    """Also where the steps of an epoch are not divided evenly among the calls; what is learned is the same."""
    config = training(backend=backend, epochs=4, steps_per_execution=at_once)
    found = run(tmp_path / "found", config)
    assert int(found.model.optimizer.iterations) == 3 * 4
    expected = run(tmp_path / "expected", training(backend="tf_keras", epochs=4, steps_per_execution=1))
    assert found.history["loss"] == pytest.approx(expected.history["loss"], abs=1e-5)


@both
def test_sigterm_keeps_the_state_at_the_next_boundary(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an epoch; what is taken up then is what nobody disturbed."""
    config = training(backend=backend, epochs=3, steps_per_execution=1)
    undisturbed = run(tmp_path / "undisturbed", config)
    after_step = resume_module._Keeping.after_step

    def terminate_in_step_4(self: Any, model: Any, epoch: int, step: int) -> None:
        if (epoch, step) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        after_step(self, model, epoch, step)

    def leave(_: Any) -> None:
        raise KilledError

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(resume_module._Keeping, "after_step", terminate_in_step_4)
        patch.setattr(Preemption, "leave", leave)
        with pytest.raises(KilledError):
            run(tmp_path / "told", config)
    assert signal.getsignal(signal.SIGTERM) == before
    state = Resume(tmp_path / "told").load()
    assert (state.epochs, state.step) == (1, 1)
    assert run(tmp_path / "told", config).history["loss"] == pytest.approx(undisturbed.history["loss"], abs=1e-6)


def test_the_workers_of_a_cluster_agree_on_where_to_stop(tmp_path: Path) -> None:
    """The one that hears the signal says so a boundary ahead; what an attempt before this one had said is forgotten."""
    (tmp_path / "stop").write_text("1")
    told, other = Preemption(tmp_path), Preemption(tmp_path)
    assert [told.is_due(), other.is_due()] == [False, False]
    told.heard = True
    assert [told.is_due(), other.is_due()] == [False, False]
    assert [other.is_due(), told.is_due()] == [True, True]


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
    assert (found.epochs, found.step, found.history) == (2, 3, STATE.history)
    assert (found.stopped, found.early) == (True, STATE.early)
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
