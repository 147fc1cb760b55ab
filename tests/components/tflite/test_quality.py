"""Metrics of a file's own answers, and a planted bad file that parity blocks."""

import numpy as np
import pytest
from tensorflow_model_analysis import utils

from components.evaluation.eval_config import eval_config
from components.evaluator.rows import Rows
from components.tflite import convert
from components.tflite.quality import Subject, judge
from components.tflite.select import choose
from schemas.config import GatesConfig
from tests.components.tflite import models

GATES = GatesConfig.model_validate(
    {
        "satisfy": [
            {"metric": "binary_accuracy", "payload": "tflite", "min": 0.5},
            {"metric": "binary_accuracy", "payload": "tflite", "slice_by": ["side"], "min": 0.5},
            {"metric": "max_abs_difference", "payload": "tflite", "against": "saved_model", "max": 0.05},
        ]
    },
    strict=False,
)


@pytest.fixture(scope="module")
def rows(ladder):
    """The ladder's rows, labelled as the SavedModel answers them, so that its accuracy is 1; two slices."""
    count = len(ladder.reference)
    side = ladder.rows["number"][:, 0] > 0
    slices = {
        (): np.arange(count),
        (("side", "left"),): np.flatnonzero(~side),
        (("side", "right"),): np.flatnonzero(side),
    }
    labels = (ladder.reference > 0.5).astype(np.int64)
    return Rows(count, {"": labels}, {"": ladder.reference}, slices, {"": ladder.rows})


@pytest.fixture(scope="module")
def config():
    made = eval_config(GATES, "label", "tflite")
    return utils.update_eval_config_with_defaults(made, has_baseline=False, rubber_stamp=True)


def value(figures, metric, **where):
    (found,) = [one for one in figures if one.metric == metric and one.slice == where]
    return found


def test_quality_is_that_of_the_files_own_answers(ladder, rows, config):
    """On the whole and on each slice, under the file's digest, with the number of rows."""
    from components.tflite.interpret import predict

    found = judge(Subject(ladder.file("int8"), "d"), rows, config)
    answers = predict(ladder.file("int8"), ladder.rows)
    right = (answers > 0.5) == (rows.labels[""] > 0.5)
    whole = value(found.figures, "binary_accuracy")
    assert (whole.payload, whole.digest, whole.n) == ("tflite", "d", 1000)
    assert whole.value == pytest.approx(right.mean())
    left = rows.slices[("side", "left"),]
    sliced = value(found.figures, "binary_accuracy", side="left")
    assert sliced.value == pytest.approx(right[left].mean())
    assert sliced.n == len(left)


def test_parity_is_against_the_saved_model_and_per_slice(ladder, rows, config):
    """The worst slice is as far as the whole."""
    found = judge(Subject(ladder.file("int8"), "d"), rows, config)
    whole = value(found.figures, "max_abs_difference")
    assert whole.against == "saved_model"
    assert whole.value == max(value(found.figures, "max_abs_difference", side=side).value for side in ("left", "right"))


def test_a_file_with_wrong_representative_rows_is_blocked_by_parity(ladder, rows, config, tmp_path):
    """Rows a hundred times too small clip every real one; the ladder goes on to the next, with the numbers."""
    small = {name: rows * 0.01 if rows.dtype.kind == "f" else rows for name, rows in models.tabular_rows(100).items()}
    with convert.opened(ladder.saved_model) as source:
        record = convert.export(source, ("int8", "float16"), small, tmp_path)
    figures = []
    for one in record.variants:
        found = judge(Subject(convert.file_of(tmp_path, one.variant), one.digest), rows, config)
        figures += found.figures
    decision = choose(record, figures, GATES, None)
    assert (decision.outcome, decision.variant) == ("push", "float16")
    planted = decision.ladder[0]
    assert (planted.variant, planted.verdict) == ("int8", "blocked")
    blocking = [result for result in planted.gates if result.blocks]
    assert any(result.metric == "max_abs_difference" and result.value > 0.05 for result in blocking)


def test_a_file_that_does_not_load_has_no_figures(ladder, rows, config, tmp_path):
    """Each figure of parity says why, and the gate blocks it as unfit."""
    broken = tmp_path / "model.tflite"
    broken.write_bytes(ladder.file("float32").read_bytes()[:900])
    found = judge(Subject(broken, "d"), rows, config)
    assert "does not load" in found.problem
    assert all(figure.value is None and "does not load" in figure.why_not for figure in found.figures)
