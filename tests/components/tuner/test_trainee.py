"""What is told of a trial after each epoch: the figures of the weights that would be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from components.trainer.strategy import Machine, make_plan
from components.tuner.trainee import _Kept, on_one_device
from schemas.config import EarlyStoppingConfig, TrainingConfig
from schemas.errors import TuningError


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def built(self, model: Any) -> None:
        raise AssertionError("nothing is built")

    def epoch(self, number: int, figures: Mapping[str, float]) -> bool:
        self.figures.append(dict(figures))
        return number < 2


def test_with_early_stopping_the_best_epoch_counts() -> None:
    """By what early stopping watches, not by the objective: that is whose weights are kept."""
    heard = Heard()
    kept = _Kept("auc", EarlyStoppingConfig(metric="val_loss"), heard)
    epochs = [(0.5, 0.8), (0.4, 0.7), (0.6, 0.9)]
    went_on = [
        kept.epoch(number, {"loss": 9.0, "val_loss": loss, "val_auc": auc}) for number, (loss, auc) in enumerate(epochs)
    ]
    assert heard.figures == [{"loss": 0.5, "auc": 0.8}, {"loss": 0.4, "auc": 0.7}, {"loss": 0.4, "auc": 0.7}]
    assert went_on == [True, True, False]


def test_without_it_the_last_epoch_counts() -> None:
    """Whatever came before."""
    heard = Heard()
    kept = _Kept("auc", None, heard)
    for number, auc in enumerate((0.9, 0.8)):
        kept.epoch(number, {"val_loss": 1.0, "val_auc": auc})
    assert kept.figures["auc"] == 0.8


def test_an_objective_that_is_not_logged_is_refused_by_name() -> None:
    """With what there is, and the close match."""
    kept = _Kept("binary_acuracy", None, Heard())
    with pytest.raises(TuningError) as caught:
        kept.epoch(0, {"auc": 0.7, "val_auc": 0.9, "val_binary_accuracy": 0.8})
    text = str(caught.value)
    assert "training.tune.objective: is not among what the model logs" in text
    assert "expected one of auc, binary_accuracy" in text
    assert "Did you mean 'binary_accuracy'?" in text


def test_a_trial_trains_on_one_device() -> None:
    """Whatever the strategy that trains the winner; from scratch, and without a search of its own."""
    pods = {"image": "x/y:1", "volume": {"claim": "satisfice"}}
    training = TrainingConfig.model_validate(
        {
            "strategy": "multi_worker_mirrored",
            "workers": 2,
            "communication": "ring",
            "warm_start": "champion",
            "cluster": "kubernetes",
            "kubernetes": pods,
        }
    )
    plain = on_one_device(training)
    assert make_plan(plain, Machine(cpus=2)).workers == 1
    assert (plain.cluster, plain.kubernetes) == ("local", None)
    assert (plain.strategy, plain.workers, plain.communication, plain.warm_start) == ("one_device", 1, "auto", "none")
    assert (plain.seed, plain.epochs, plain.global_batch_size) == (training.seed, training.epochs, 1024)
    TrainingConfig.model_validate(plain.model_dump())
