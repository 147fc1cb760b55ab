"""The champion's weights as a beginning: taken where all of them fit, else nothing is, and the reason names what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.trainer.fit import keras_for, seeded
from components.trainer.warm_start import Champion, begin_from, read_champion, vocabularies_changed
from tests.components.trainer.test_precision import build_model
from tests.components.trainer.test_run import MODEL, train, training
from tests.components.trainer.tiny import Tiny

both = pytest.mark.parametrize("backend", ["tf_keras", "keras3"])


@both
def test_a_saved_model_gives_its_weights_by_name(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """As a model of the same architecture names them; a training that begins from them goes on where they were."""
    first = train(tiny, tmp_path / "one", training(backend=backend, epochs=6))
    saved_model = str(tmp_path / "one" / "Format-Serving")
    champion = read_champion(saved_model)
    assert champion.digest == first["digest"]
    assert {name: array.shape for name, array in champion.weights.items()} == {
        "dense/kernel": (7, 4),
        "dense/bias": (4,),
        "dense_1/kernel": (4, 1),
        "dense_1/bias": (1,),
    }
    config = training(backend=backend, epochs=1, warm_start="champion")
    second = train(tiny, tmp_path / "two", config, MODEL, base_model=saved_model)
    assert second["warm_start"] == {"champion": first["digest"], "variables": 4}
    assert second["history"]["loss"][0] < first["history"]["loss"][0]
    cold = train(tiny, tmp_path / "three", config, MODEL)
    assert cold["warm_start"] == {"champion": None, "cold_start_because": "no model is served yet"}
    assert cold["history"]["loss"][0] == pytest.approx(first["history"]["loss"][0])


@both
def test_what_differs_is_named_with_its_shape(backend: str) -> None:
    """And the model is as it was."""
    keras = keras_for(backend)
    seeded(training(backend=backend))
    model = build_model(keras, {}, {})
    before = model.get_weights()
    fitting = {
        "dense/kernel": np.ones((4, 16), np.float32),
        "dense/bias": np.ones(16, np.float32),
        "dense_1/kernel": np.ones((16, 1), np.float32),
        "dense_1/bias": np.ones(1, np.float32),
    }
    for weights, why in (
        ({**fitting, "dense/kernel": np.ones((3, 16))}, "dense/kernel is 4x16, the champion's 3x16"),
        ({k: v for k, v in fitting.items() if k != "dense/bias"}, "the champion has no dense/bias 16"),
        ({**fitting, "more/kernel": np.ones((2, 2))}, "more/kernel 2x2 is the champion's alone"),
        ({}, "the champion has no dense/bias 16"),
    ):
        found = begin_from(Champion("d", weights), model, assign=True)
        assert found["champion"] == "d"
        assert why in found["cold_start_because"]
        assert "variables" not in found
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)
    assert begin_from(Champion("d", fitting), model, assign=False) == {"champion": "d", "variables": 4}
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    begin_from(Champion("d", fitting), model, assign=True)
    assert all(np.all(one == 1) for one in model.get_weights())


def test_a_damaged_champion_is_no_beginning(tiny: Tiny, tmp_path: Path) -> None:
    """It is said, and the training goes its way."""
    train(tiny, tmp_path, training(epochs=1))
    saved_model = tmp_path / "Format-Serving"
    (saved_model / "variables" / "variables.index").write_bytes(b"nothing")
    assert read_champion(str(saved_model)).why_not.startswith("the champion's weights cannot be read: ")


def test_a_vocabulary_of_other_words_is_told(tmp_path: Path) -> None:
    """One of another size is another shape, which is told otherwise."""
    for folder, words in (("champion", b"cash\ncard\nnone\n"), ("mine", b"card\ncash\nnone\n")):
        (tmp_path / folder / "assets").mkdir(parents=True)
        (tmp_path / folder / "assets" / "payment").write_bytes(words)
        (tmp_path / folder / "assets" / "same").write_bytes(b"one\n")
        (tmp_path / folder / "assets" / "grown").write_bytes(b"one\n" * len(folder))
    assert vocabularies_changed(str(tmp_path / "champion"), str(tmp_path / "mine")) == [
        "vocabulary payment has another word at 2 of 3 places"
    ]
