"""The space of hyperparameters: what is drawn, what it means, and how TFX's artifact holds it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.trainer.tuned import TUNED, tuned
from components.tuner.space import decoded, draw_of, encoded, keras_tuner_config, size_of
from schemas.config import DimensionConfig, ModelConfig

SPACE = {
    "learning_rate": DimensionConfig(min=1e-4, max=1e-1, log=True),
    "units": DimensionConfig(min=8, max=64, step=8),
    "layers": DimensionConfig(choices=([64, 32], [32])),
    "dropout": DimensionConfig(min=0, max=0.5, step=0.1),
    "activation": DimensionConfig(choices=("relu", "tanh")),
    "deep": DimensionConfig(choices=(True, False)),
}
VALUES = {"learning_rate": 0.003, "units": 24, "layers": [32], "dropout": 0.3, "activation": "tanh", "deep": False}


@given(st.data())
def test_what_is_drawn_can_be_drawn_again(data: st.DataObject) -> None:
    """Each draw is a value of its dimension, of the right type, and is found again from that value."""
    for name, dimension in SPACE.items():
        draw = draw_of(dimension)
        if draw.kind == "choice":
            drawn: str | float = data.draw(st.sampled_from(draw.choices))
        elif draw.kind == "whole":
            drawn = data.draw(st.integers(int(draw.low), int(draw.high)))
        else:
            drawn = data.draw(st.floats(draw.low, draw.high))
        value = decoded(dimension, drawn)
        assert encoded(dimension, value) == drawn, name
        assert type(value) is type(VALUES[name]), name


def test_whole_numbers_stay_whole_and_steps_do_not_drift() -> None:
    """A range of whole numbers gives whole numbers; 0.1 three times is 0.3."""
    assert [decoded(SPACE["dropout"], index) for index in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert decoded(DimensionConfig(min=8, max=60, step=8), draw_of(DimensionConfig(min=8, max=60, step=8)).high) == 56
    assert isinstance(decoded(DimensionConfig(min=1, max=3), 2), int)
    assert isinstance(decoded(DimensionConfig(min=0.5, max=3), 2), float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("units", 9),
        ("units", 128),
        ("units", 8.5),
        ("layers", [8]),
        ("dropout", 0.25),
        ("learning_rate", "x"),
        ("units", True),
    ],
)
def test_a_value_outside_is_not_drawn(name: str, value: object) -> None:
    """What the space does not hold has no draw."""
    assert encoded(SPACE[name], value) is None  # type: ignore[arg-type]


def test_sets_are_counted() -> None:
    """Where all dimensions can be counted."""
    assert size_of(SPACE) is None
    assert size_of({name: one for name, one in SPACE.items() if name != "learning_rate"}) == 8 * 2 * 6 * 2 * 2


def test_keras_tuner_reads_what_we_write_and_the_trainer_too() -> None:
    """keras-tuner loads the file with every value; the Trainer has the values as they were in the configuration."""
    keras_tuner = pytest.importorskip("keras_tuner")
    config = json.loads(json.dumps(keras_tuner_config(SPACE, VALUES)))
    theirs = keras_tuner.HyperParameters.from_config(config)
    assert theirs.get("units") == 24
    assert theirs.get("learning_rate") == 0.003
    assert theirs.get("activation") == "tanh"
    assert json.loads(theirs.get("layers")) == [32]
    assert json.loads(theirs.get("deep")) is False
    model = ModelConfig(module="m", label="y", hyperparameters={"units": 8, "other": "kept"})
    custom = tuned({"model": model.model_dump_json(by_alias=True)}, config)
    merged = ModelConfig.model_validate_json(custom["model"]).hyperparameters
    assert merged == {**VALUES, "other": "kept"}
    assert json.loads(custom[TUNED]) == VALUES


def test_what_tfx_s_own_tuner_writes_is_read() -> None:
    """It names no values that are JSON: each is taken as it is."""
    keras_tuner = pytest.importorskip("keras_tuner")
    theirs = keras_tuner.HyperParameters()
    theirs.Choice("activation", ["relu", "tanh"], default="tanh")
    theirs.Int("units", 8, 64, step=8, default=16)
    model = ModelConfig(module="m", label="y", hyperparameters={"units": 8})
    merged = tuned({"model": model.model_dump_json(by_alias=True)}, theirs.get_config())
    assert ModelConfig.model_validate_json(merged["model"]).hyperparameters == {"units": 16, "activation": "tanh"}
    assert tuned({"model": "x"}, None) == {"model": "x"}
