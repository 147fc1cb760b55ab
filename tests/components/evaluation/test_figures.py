"""TFMA's results as figures: by hand, as TFMA writes them, and against another library's arithmetic."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from components.evaluation.eval_config import LABEL
from components.evaluation.figures import figures_of, read_figures
from schemas.decision import Figure
from tests.components.evaluation.rewrite import evaluation_of_both
from tests.components.first_run import FirstRun


def results(*slices: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Any]:
    """TFMA's nesting: by output, sub-key and metric."""
    return [(key, {"": {"": metrics}}) for key, metrics in slices]


def double(value: Any) -> dict[str, Any]:
    return {"doubleValue": value}


def bounded(value: float, lower: float, upper: float) -> dict[str, Any]:
    return {"boundedValue": {"value": value, "lowerBound": lower, "upperBound": upper, "methodology": "POISSON"}}


def test_a_figure_for_each_metric_and_slice() -> None:
    """With the payload's digest, the number of examples, and what measured it; in the order of slices and names."""
    found = figures_of(
        results(
            ((), {"auc": double(0.9), "example_count": double(100.0), "accuracy": double(0.0)}),
            ((("hour", 5),), {"auc": double(0.5), "example_count": double(7.0)}),
        ),
        "c0ffee",
    )
    assert [(one.metric, one.value, one.slice, one.n) for one in found] == [
        ("accuracy", 0.0, {}, 100),
        ("auc", 0.9, {}, 100),
        ("example_count", 100.0, {}, 100),
        ("auc", 0.5, {"hour": "5"}, 7),
        ("example_count", 7.0, {"hour": "5"}, 7),
    ]
    assert {(one.digest, one.unit, one.payload, one.interval) for one in found} == {
        ("c0ffee", "1", "saved_model", None)
    }
    assert all(one.how.startswith("tfma 0.") for one in found)


@pytest.mark.parametrize(("label", "why"), [(0.0, "every label is 0"), (1.0, "every label is 1"), (0.5, "")])
def test_a_slice_of_one_class_has_no_area_under_a_curve(label: float, why: str) -> None:
    """TFMA gives 0 for it, which is no figure of the model; a share of right answers stays one."""
    found = figures_of(
        results(((("pay", "Cash"),), {
            "auc": double(0.0), "recall": double("NaN"), "binary_accuracy": double(1.0), "mean_label": double(label)
        })), "d",
    )  # fmt: skip
    told = {one.metric: (one.value, one.why_not) for one in found}
    assert told["binary_accuracy"] == (1.0, "")
    assert told["auc"] == ((None, why) if why else (0.0, ""))
    assert told["recall"] == (None, why)


@pytest.mark.parametrize("metric", ["binary_crossentropy", "binary_accuracy", "hinge", "true_positives"])
def test_a_value_that_one_class_allows_is_not_excused_for_it(metric: str) -> None:
    """Where it is missing the model gave no numbers, and the slice has to block."""
    found = figures_of(
        results(
            ((("pay", "Cash"),), {metric: double("NaN"), "mean_label": double(0.0), "example_count": double(90.0)})
        ),
        "d",
    )
    assert {one.metric: (one.value, one.why_not) for one in found}[metric] == (None, "")


def test_the_difference_to_the_champion_with_its_interval() -> None:
    """On the same examples; TFMA's difference is no figure of its own."""
    metrics = {"auc": bounded(0.9, 0.85, 0.95), "auc_diff": bounded(0.01, -0.01, 0.03), "recall": double(0.5)}
    auc, recall = figures_of(results(((), {**metrics, "recall_diff": double(0.1)})), "d")
    assert (auc.difference_to_champion, auc.difference_interval) == (0.01, (-0.01, 0.03))
    assert (recall.difference_to_champion, recall.difference_interval) == (None, None)


def test_bounds_that_are_no_numbers_are_no_interval() -> None:
    """Of a sample in which the figure could not be computed."""
    (figure,) = figures_of(results(((), {"recall": bounded(0.5, float("nan"), float("nan"))})), "d")
    assert (figure.value, figure.interval) == (0.5, None)


@pytest.mark.parametrize("value", [double(float("nan")), double("NaN"), double(None), {}, {"bytesValue": b"x"}])
def test_what_is_no_number_is_none(value: dict[str, Any]) -> None:
    """It was looked for and is not there, which is no 0 and no pass."""
    (figure,) = figures_of(results(((), {"calibration": value})), "d")
    assert (figure.value, figure.n, figure.interval) == (None, None, None)


def test_bounds_are_the_interval() -> None:
    """Where TFMA computed them, for counts as well."""
    found = figures_of(
        results(((), {"auc": bounded(0.9, 0.85, 0.95), "example_count": bounded(99.7, 90.0, 110.0)})), "d"
    )
    assert [(one.value, one.interval, one.n) for one in found] == [
        (0.9, (0.85, 0.95), 99),
        (99.7, (90.0, 110.0), 99),
    ]


def test_values_of_a_slice_are_text() -> None:
    """A word comes as bytes, a number as a number; bytes that are no UTF-8 do not fail."""
    key = (("company", b"Caf\xc3\xa9 Taxi"), ("hour", 5), ("share", 0.5), ("word", "text"), ("odd", b"\xff"))
    (figure,) = figures_of(results((key, {"auc": double(0.9)})), "d")
    assert figure.slice == {"company": "Café Taxi", "hour": "5", "share": "0.5", "word": "text", "odd": "�"}


def test_differences_that_tfma_adds_are_left_out() -> None:
    """The gate compares figures itself."""
    found = figures_of(results(((), {"auc": double(0.9), "auc_diff": double(0.1)})), "d")
    assert [one.metric for one in found] == ["auc"]


def test_no_slices_no_figures() -> None:
    """An evaluation without results gives none."""
    assert figures_of([], "d") == []


# --- what the small pipeline's Evaluator wrote ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(first_run: FirstRun) -> Path:
    """The evaluation of the candidate alone: nothing was served before."""
    return first_run.uris["Evaluator", "evaluation"]


@pytest.fixture(scope="module")
def figures(evaluation: Path) -> list[Figure]:
    return read_figures(str(evaluation), "c0ffee", champion=False)


@pytest.fixture(scope="module")
def served(first_run: FirstRun) -> tuple[Any, Any, list[str]]:
    """Labels, the served model's predictions, and the payment type of each row of the eval split."""
    (file,) = (first_run.uris["ExampleGen", "examples"] / "Split-eval").iterdir()
    examples = tf.constant([record.numpy() for record in tf.data.TFRecordDataset(str(file))])
    model = tf.saved_model.load(str(first_run.saved_model))
    predictions = model.signatures["serving_examples"](examples)["outputs"].numpy().reshape(-1)
    labels = model.signatures["transform_features"](examples)["big_tipper"].numpy().reshape(-1)
    payment = tf.io.parse_example(examples, {"payment_type": tf.io.FixedLenFeature([1], tf.string)})["payment_type"]
    return labels, predictions, [value.decode() for value in payment.numpy().reshape(-1)]


def value(figures: list[Figure], metric: str, **slice_: str) -> float | None:
    (found,) = (one for one in figures if one.metric == metric and one.slice == slice_)
    return found.value


def test_the_figures_are_those_of_the_model_that_ships(figures: list[Figure], served: Any) -> None:
    """The area under the curve as scikit-learn reckons it from the served model's answers, and the accuracy exactly."""
    labels, predictions, _ = served
    assert 0 < labels.sum() < len(labels)
    assert value(figures, "auc") == pytest.approx(sklearn_metrics.roc_auc_score(labels, predictions), abs=5e-3)
    assert value(figures, "binary_accuracy") == sklearn_metrics.accuracy_score(labels, predictions > 0.5)
    assert value(figures, "example_count") == len(labels)
    assert {one.digest for one in figures} == {"c0ffee"}


def test_each_slice_holds_its_own_rows(figures: list[Figure], served: Any) -> None:
    """Every row is in one slice, and each slice is measured on its rows alone."""
    labels, predictions, payment = served
    counts = {one.slice["payment_type"]: one.n for one in figures if one.slice and one.metric == "example_count"}
    assert counts == dict(Counter(payment))
    assert sum(n or 0 for n in counts.values()) == len(labels)
    for kind, n in counts.items():
        rows = np.array([one == kind for one in payment])
        assert rows.sum() == n
        expected = sklearn_metrics.accuracy_score(labels[rows], predictions[rows] > 0.5)
        assert value(figures, "binary_accuracy", payment_type=kind) == expected


def test_without_a_champion_there_are_no_figures_of_one(evaluation: Path) -> None:
    """Nothing of the candidate is taken for the champion's."""
    assert read_figures(str(evaluation), "d", champion=True) == []


def test_candidate_and_champion_are_told_apart(evaluation: Path, tmp_path: Path) -> None:
    """Evaluated together, each has its own figures."""
    folder = evaluation_of_both(evaluation, tmp_path / "evaluation", champion_shift=-0.25)
    candidate = read_figures(str(folder), "new", champion=False)
    champion = read_figures(str(folder), "old", champion=True)
    assert len(candidate) == len(champion) > 3
    for new, old in zip(candidate, champion, strict=True):
        assert (new.metric, new.slice, new.digest, old.digest) == (old.metric, old.slice, "new", "old")
        assert (new.value is None) == (old.value is None) == bool(new.why_not) == bool(old.why_not)
        assert new.value is None or old.value == pytest.approx(new.value - (0.25 if new.metric != LABEL else 0.0))
