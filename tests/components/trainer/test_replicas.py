"""Our loop in the place of Keras 3's `fit`: the same sums, callbacks of Keras, and replicas whose weights stay equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.loop import Loop
from components.trainer.replicas import InStep, _together
from components.trainer.scope import Scope
from components.trainer.servers import Served
from schemas.errors import SatisficeError
from tests.components.trainer.looped import BATCH, ROWS, fit, own_fit, small_model, some_rows, told_of, weighing_model
from tests.components.trainer.test_servers import AtOnce

SPEC = some_rows(ROWS, 2).element_spec


def in_step(make: Callable[[Any], Any] = small_model) -> tuple[Any, Loop]:
    """A model with one replica, and its loop."""
    keras.backend.clear_session()
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        model = make(keras)
    model.steps_per_execution = 3
    return model, Loop(keras, model, InStep(keras, model, strategy, SPEC))


def in_central_storage(make: Callable[[Any], Any] = small_model) -> tuple[Any, Loop]:
    """Metrics apart from their variables."""
    keras.backend.clear_session()
    strategy = tf.distribute.experimental.CentralStorageStrategy(["/cpu:0"], "/cpu:0")
    with strategy.scope():
        model = make(keras)
    return model, Loop(keras, model, InStep(keras, model, strategy, SPEC))


def served(make: Callable[[Any], Any] = small_model, library: Any = keras) -> tuple[Any, Loop]:
    """Handed out to a worker."""
    library.backend.clear_session()
    model = make(library)
    scope = Scope(coordinator=AtOnce(), workers=1)
    return model, Loop(library, model, Served(library, model, scope, BATCH, lambda: make(library), SPEC))


def served_by_tf_keras(make: Callable[[Any], Any] = small_model) -> tuple[Any, Loop]:
    """The same, with the other Keras."""
    return served(make, tf_keras)


ways = pytest.mark.parametrize("way", [in_step, in_central_storage, served, served_by_tf_keras])


def test_in_step_it_is_keras_own_fit() -> None:
    """The same curve, though the last call of an epoch makes fewer steps; callbacks hear of each."""
    other, expected = own_fit(keras)
    model, loop = in_step()
    told = told_of(keras)
    history = fit(loop, [told], in_train=True)
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, abs=1e-5)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert told.steps == [3, 6, 8] * 3
    assert told.ends == ["epoch 0", "epoch 1", "epoch 2", "train"]
    assert int(model.optimizer.iterations.numpy()) == 24


def some_callbacks(folder: Path) -> list[Any]:
    called = keras.callbacks
    return [
        called.LearningRateScheduler(lambda epoch, rate: 0.1 if epoch < 2 else rate),
        called.ReduceLROnPlateau("val_ones", mode="min", patience=2, factor=0.5, min_delta=0),
        called.ModelCheckpoint(str(folder / "best.weights.h5"), "loss", save_weights_only=True, save_best_only=True),
        called.ModelCheckpoint(str(folder / "{epoch}.keras")),
        called.TensorBoard(str(folder / "logs")),
        called.EarlyStopping("val_ones", mode="min", patience=3, restore_best_weights=True),
    ]


@pytest.fixture(scope="module")
def called_back(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, list[float]]]:
    """What Keras' own `fit` makes of these callbacks: the weights, and the curve."""
    model, history = own_fit(keras, some_callbacks(tmp_path_factory.mktemp("theirs")), epochs=9)
    return model.get_weights(), history


@pytest.mark.parametrize("way", [in_step, in_central_storage, served])
def test_callbacks_of_keras_do_what_they_do_in_fit(
    way: Callable[[], tuple[Any, Loop]], called_back: Any, tmp_path: Path
) -> None:
    """Learning rates, stopping, checkpoints and TensorBoard: the same rates, epochs, weights, and files."""
    weights, expected = called_back
    model, loop = way()
    history = fit(loop, some_callbacks(tmp_path), epochs=9)
    assert history["learning_rate"] == pytest.approx(expected["learning_rate"])
    assert len(set(history["learning_rate"])) == 2
    assert len(history["loss"]) == len(expected["loss"]) == 4
    for name in ("loss", "val_loss", "ones", "val_ones"):
        assert history[name] == pytest.approx(expected[name], abs=1e-5)
    for mine, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)
    files = sorted(file.name for file in tmp_path.glob("*.*"))
    assert files == ["1.keras", "2.keras", "3.keras", "4.keras", "best.weights.h5"]
    loaded = keras.saving.load_model(tmp_path / "1.keras")
    rows = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(loaded({"x": rows}), model({"x": rows}), atol=1e-6)
    for place in ("train", "validation"):
        assert list((tmp_path / "logs" / place).glob("events*"))


def test_a_callback_ends_the_training_within_an_epoch() -> None:
    """Its figures are told."""
    _, loop = in_step()
    told = told_of(keras, stop=True)
    assert len(fit(loop, [told])["val_loss"]) == 1
    assert told.steps == [3]
    assert told.ends == ["epoch 0", "train"]


class Noting(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the figures of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.figures: list[tuple[int, float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun.append(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.figures.append((batch, logs["loss"]))


@pytest.mark.parametrize("way", [in_step, in_central_storage, served])
def test_a_callback_that_looks_at_steps_hears_of_their_figures(way: Callable[[], tuple[Any, Loop]]) -> None:
    """As in Keras' own `fit`: those of the epoch so far, after each call."""
    model = small_model(keras)
    model.steps_per_execution = 4
    theirs, ours = Noting(), Noting()
    fit(model, [theirs], in_train=True)
    model, loop = way()
    model.steps_per_execution = 4
    fit(loop, [ours], in_train=True)
    assert ours.begun == theirs.begun == [0, 4] * 3
    assert [batch for batch, _ in ours.figures] == [batch for batch, _ in theirs.figures] == [3, 7] * 3
    assert [loss for _, loss in ours.figures] == pytest.approx([loss for _, loss in theirs.figures], abs=1e-5)


def test_nobody_reads_the_figures_of_steps_that_no_callback_looks_at(tmp_path: Path) -> None:
    """Reading them takes all workers."""

    class Only(keras.callbacks.Callback):  # type: ignore[misc]
        only_counts = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert not logs

    _, loop = in_step()
    way: Any = loop._way
    read: list[bool] = []
    each = way._each
    way._each = lambda weights: (read.append(weights), each(weights))[1]
    fit(loop, [Only(), keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)])
    assert read == [True, False] * 3, "once at the end of training, and of validation"


@ways
def test_a_step_of_its_own_is_what_the_model_trains_in(way: Callable[..., tuple[Any, Loop]]) -> None:
    """With weights of rows and a figure of its own: the curve is that of Keras' own `fit`."""
    library = tf_keras if way is served_by_tf_keras else keras
    library.backend.clear_session()
    expected = fit(weighing_model(library), [])
    _, loop = way(weighing_model)
    history = fit(loop, [])
    assert history.keys() == expected.keys() >= {"loss", "mse", "share", "val_mse"}
    for name, values in expected.items():
        if name != "val_share":  # is none of a step of validation
            assert history[name] == pytest.approx(values, abs=1e-5), name
    assert len({*history["mse"]}) == 3


@ways
def test_a_figure_of_a_step_that_is_of_no_metric_is_refused(way: Callable[..., tuple[Any, Loop]]) -> None:
    """There would be one for each batch and replica."""

    def answering(library: Any) -> Any:
        model = weighing_model(library)
        kind = type(model)
        step = kind.train_step
        kind.train_step = lambda self, data: {**step(self, data), "odd": tf.constant(0.0)}
        return model

    _, loop = way(answering)
    with pytest.raises(
        SatisficeError, match="answers odd, which is of no metric of the model; expected figures of met"
    ):
        fit(loop, [])


def test_a_metric_of_replicas_that_nobody_can_bring_together_is_refused() -> None:
    """What is said to be a mean is one; what is said to be nothing has no value."""
    each = np.array([[1.0], [3.0]])
    of = [SimpleNamespace(path="seen", synchronization="on_read", aggregation=kind) for kind in ("sum", "mean", "none")]
    assert [float(_together(one, each)[0]) for one in of[:2]] == [4.0, 2.0]
    assert float(_together(SimpleNamespace(synchronization="auto", aggregation="none"), each)[0]) == 1.0
    with pytest.raises(SatisficeError, match=r"metric variable seen: has another value in each replica.*got none"):
        _together(of[2], each)


def test_replicas_that_drift_apart_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sums of their weights, of which two replicas report other ones."""
    _, loop = in_step()
    way: Any = loop._way
    read = way._each
    monkeypatch.setattr(way, "_each", lambda weights: tf.concat([read(weights), read(weights) * 1.01], 0))
    with pytest.raises(SatisficeError, match=r"have not the same weights any more; .* got 1.0% in replica 1"):
        fit(loop, [])


def test_nothing_to_validate_on_gives_no_figures() -> None:
    """No zeros, which would look like a perfect loss."""
    _, loop = in_step()
    way: Any = loop._way
    assert way.evaluate(some_rows(ROWS, 2).take(0)) == {}
