"""Files answer rows as a device would, in batches and alone, and what is wrong with their answers is told."""

import numpy as np
import pytest

from components.tflite.interpret import Interpreted, ailment, predict
from schemas.errors import InterpreterError
from schemas.tflite import VARIANTS

# How far each variant of the small model is from its SavedModel at most.
NEAR = {"float32": 1e-6, "float16": 2e-3, "dynamic_int8": 0.05, "int8": 0.05, "int16x8": 0.05}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_answers_as_the_saved_model_does(ladder, variant):
    """On rows that were no part of its calibration, with integers made of real numbers on the way in and back."""
    answers = predict(ladder.file(variant), ladder.rows)
    assert answers.shape == ladder.reference.shape
    assert answers.dtype == np.float32
    assert np.abs(answers - ladder.reference).max() < NEAR[variant]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("rows", "batch", "workers"), [(1000, 1, 1), (1000, 7, 3), (5, 256, 2), (1, 256, None)])
def test_batches_and_workers_change_nothing(ladder, variant, rows, batch, workers):
    """A row's answer does not depend on the rows beside it, nor on how many there are."""
    some = {name: values[:rows] for name, values in ladder.rows.items()}
    answers = predict(ladder.file(variant), some, workers=workers, batch_rows=batch)
    np.testing.assert_array_equal(answers, predict(ladder.file(variant), ladder.rows)[:rows])


def test_no_rows(ladder):
    """Nothing is asked and nothing answered."""
    none = {name: values[:0] for name, values in ladder.rows.items()}
    assert len(predict(ladder.file("int8"), none)) == 0


def test_what_is_out_of_range_is_the_nearest_in_range(ladder):
    """An integer of 8 bits does not wrap around."""
    rows = {name: values[:2].copy() for name, values in ladder.rows.items()}
    rows["number"][:] = [[1e6], [1e9]]
    first, second = predict(ladder.file("int8"), rows | {"pair": rows["pair"] * 0, "word": rows["word"] * 0})
    assert first == second


def test_a_missing_feature_is_named(ladder):
    """As is what was given instead."""
    with pytest.raises(InterpreterError, match=r"takes number.*got pair, word"):
        Interpreted(ladder.file("float32")).predict({k: v for k, v in ladder.rows.items() if k != "number"})


def test_another_shape_is_told(ladder):
    """The feature, the shape that is taken and the one that came."""
    rows = {**ladder.rows, "pair": ladder.rows["number"]}
    with pytest.raises((InterpreterError, ValueError), match=r"pair|reshape"):
        Interpreted(ladder.file("float32")).predict(rows)


def test_a_file_that_does_not_load_is_told(tmp_path, ladder):
    """No stack trace of the interpreter's."""
    file = tmp_path / "model.tflite"
    file.write_bytes(ladder.file("float32").read_bytes()[:900])
    with pytest.raises(InterpreterError, match=r"model\.tflite: does not load in LiteRT's interpreter"):
        Interpreted(file)


def test_answers_that_are_none():
    """NaN and infinity are counted by rows."""
    good = np.array([[0.1], [0.2], [0.3]])
    assert ailment(good, good) == ""
    assert ailment(np.array([[0.1], [np.nan], [np.inf]]), good).startswith("answers NaN or infinity on 2 of 3 rows")


def test_a_constant_is_an_ailment_where_the_saved_model_has_none():
    """A model that always answers the same may be converted to one."""
    varied, flat = np.array([[0.1], [0.2]]), np.array([[0.5], [0.5]])
    assert "answers the same, [0.5], on all 2 rows" in ailment(flat, varied)
    assert ailment(flat, flat) == ""
    assert ailment(flat[:1], varied[:1]) == ""
