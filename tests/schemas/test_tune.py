"""The section `training.tune`: what it takes, and what it says of what it does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.config import TuneConfig
from schemas.errors import ConfigError
from schemas.load import load_config, parse_config
from tests.workbench import REPOSITORY

RAW = {
    "name": "taxi",
    "data": {"source": {"format": "csv", "path": "a.csv"}, "schema": "s.pbtxt"},
    "model": {"module": "m", "label": "y", "hyperparameters": {"units": [8], "rate": 0.1, "depth": 2, "act": "relu"}},
    "training": {"tune": {"objective": "auc", "space": {"rate": {"min": 0.001, "max": 1, "log": True}}}},
    "gates": {"optimize": {"metric": "auc"}},
    "push": {"serving": {"base_path": "b"}},
}


def raw(**tune: Any) -> dict[str, Any]:
    changed = copy.deepcopy(RAW)
    changed["training"]["tune"].update(tune)
    return changed


def fault(**tune: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw(**tune))
    return "\n".join(str(one) for one in caught.value.faults)


def test_a_search_has_defaults() -> None:
    """Twenty trials, as many at once as there is room for."""
    training = parse_config(raw()).training
    assert training.tune is not None
    assert (training.tune.trials, training.tune.parallel, training.searches) == (20, "auto", True)
    assert not parse_config(raw(trials=0)).training.searches


@pytest.mark.parametrize(
    ("objective", "mode", "better"),
    [("auc", "auto", "max"), ("loss", "auto", "min"), ("mean_squared_error", "auto", "min"), ("mine", "max", "max")],
)
def test_the_direction_follows_from_the_metric(objective: str, mode: str, better: str) -> None:
    """Or is said, for a metric of one's own."""
    tune = parse_config(raw(objective=objective, mode=mode)).training.tune
    assert isinstance(tune, TuneConfig)
    assert tune.better == better


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("acu", "did you mean 'auc'?"),
        ("size_mb", "is a figure of the payload, which a gate limits"),
        ("val_auc", "expected objective: auc"),
        ("mean_label", "is not known to be better when it is higher, or when it is lower"),
    ],
)
def test_an_objective_that_cannot_be_one_is_refused(objective: str, words: str) -> None:
    """With what there is instead."""
    assert words in fault(objective=objective)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"rat": {"min": 0, "max": 1}}, "names 'rat', which model.hyperparameters does not have"),
        ({"rat": {"min": 0, "max": 1}}, "(did you mean 'rate'?)"),
        ({"rate": {"choices": ["a", "b"]}}, "offers text, and model.hyperparameters.rate is a number"),
        ({"units": {"min": 1, "max": 2}}, "offers a number, and model.hyperparameters.units is a list"),
        ({"rate": {"min": 1, "max": 1}}, "min 1 is not below max 1"),
        ({"rate": {"min": 0, "max": 1, "log": True}}, "min above 0, which has a logarithm"),
        ({"rate": {"min": 1, "max": 8, "log": True, "step": 1}}, "has log and step"),
        ({"rate": {"min": 0, "max": 1, "step": 2}}, "step 2 does not fit between 0 and 1"),
        ({"rate": {"min": 0}}, "has min alone"),
        ({"rate": {}}, "has neither choices nor min and max"),
        ({"rate": {"choices": [0.1, 0.2], "log": True}}, "has choices and log"),
        ({"rate": {"choices": [0.1, 0.1]}}, "leaves nothing to choose"),
        ({"rate": {"choises": [0.1, 0.2]}}, "did you mean 'choices'?"),
        ({}, "training.tune.space"),
    ],
)
def test_a_space_that_is_none_is_refused(space: dict[str, Any], words: str) -> None:
    """By the key, with what was expected."""
    assert words in fault(space=space)


def test_a_trial_does_not_train_on_a_tpu() -> None:
    """Each has one CPU or GPU."""
    changed = raw()
    changed["training"]["strategy"] = "tpu"
    with pytest.raises(ConfigError, match="a trial trains on one CPU or GPU"):
        parse_config(changed)


def test_the_shipped_example_searches_when_it_is_told_to() -> None:
    """`--set training.tune.trials=20` is all that it takes; without it there is no search."""
    file = REPOSITORY / "satisfice.yaml"
    assert not load_config(file).config.training.searches
    tune = load_config(file, ["training.tune.trials=20"]).config.training.tune
    assert tune is not None
    assert (tune.trials, tune.objective) == (20, "auc")
    assert isinstance(tune.space["embedding_size"].min, int)


def test_trials_alone_say_what_is_missing() -> None:
    """Where the file has no section: the keys that it needs."""
    file = REPOSITORY / "penguin.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["training.tune.trials=20"])
    assert [one.path for one in caught.value.faults] == ["training.tune.objective", "training.tune.space"]


@pytest.mark.parametrize("limit", ["trial_timeout", "timeout"])
def test_a_limit_on_time_is_a_duration(limit: str) -> None:
    """Of some length; null is no limit."""
    tune = parse_config(raw(**{limit: "10m"})).training.tune
    assert tune is not None
    assert getattr(tune, limit) == "10m"
    assert f"training.tune.{limit}: is no time at all; expected at least '1s'" in fault(**{limit: "0m"})
    assert "such as '30m' or '6h'" in fault(**{limit: 600})
