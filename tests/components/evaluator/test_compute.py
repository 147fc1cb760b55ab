"""Intervals, small slices, and what is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.components.evaluator.test_columnar import config


@pytest.fixture
def rows():
    """A thousand rows, right in 800 of them; a slice of 30 and one of 1."""
    from components.evaluator.rows import Rows

    labels = np.arange(1000).reshape(-1, 1) % 2
    wrong = np.random.default_rng(1).permutation(1000) < 200
    predictions = np.where(wrong[:, None], 1 - labels, labels).astype(np.float32)
    slices = {(): np.arange(1000), (("f", 1),): np.arange(30), (("f", 2),): np.array([7])}
    models = ("candidate", "champion")
    return Rows(1000, dict.fromkeys(models, labels), dict.fromkeys(models, predictions), slices)


def found(rows, eval_config, **kwargs):
    from components.evaluator.compute import metrics_per_slice

    return {
        key: {k.name: v for k, v in metrics.items() if k.model_name in ("candidate", "") and not k.is_diff}
        for key, metrics in metrics_per_slice(rows, eval_config, None, **kwargs)
    }


def with_intervals(method):
    from tensorflow_model_analysis.proto import config_pb2

    eval_config = config("binary_accuracy", "example_count")
    eval_config.options.compute_confidence_intervals.value = True
    kinds = config_pb2.ConfidenceIntervalOptions.ConfidenceIntervalMethod
    eval_config.options.confidence_intervals.method = kinds.Value(method)
    return eval_config


def test_the_jackknife_is_the_formula(rows):
    """Standard error of the pseudo-values of 20 parts, with 19 degrees of freedom."""
    from components.evaluator.compute import SAMPLES

    value = found(rows, with_intervals("JACKKNIFE"), seed=5)[()]["binary_accuracy"]
    part = np.random.default_rng(5).integers(SAMPLES, size=1000)
    right = (rows.labels["candidate"] == rows.predictions["candidate"])[:, 0]
    left_out = np.array([right[part != one].mean() for one in range(SAMPLES)])
    pseudo = SAMPLES * right.mean() - (SAMPLES - 1) * left_out
    assert value.unsampled_value == pytest.approx(0.8)
    assert value.sample_standard_deviation == pytest.approx(pseudo.std(ddof=1) / SAMPLES**0.5)
    assert value.sample_degrees_of_freedom == SAMPLES - 1


@pytest.mark.parametrize("method", ["JACKKNIFE", "POISSON_BOOTSTRAP"])
def test_intervals_are_as_wide_as_they_should_be(rows, method):
    """Within a factor of two of a binomial's standard error; counts have none; the same seed gives the same."""
    metrics = found(rows, with_intervals(method))
    expected = (0.8 * 0.2 / 1000) ** 0.5
    assert 0.5 < metrics[()]["binary_accuracy"].sample_standard_deviation / expected < 2
    assert metrics[()]["example_count"] == 1000
    again = found(rows, with_intervals(method))
    assert again[()]["binary_accuracy"] == metrics[()]["binary_accuracy"]


def test_a_slice_too_small_for_intervals_says_so(rows):
    """Of one row there is nothing to leave out."""
    metrics = found(rows, with_intervals("JACKKNIFE"))[(("f", 2),)]
    assert metrics["binary_accuracy"] in (0.0, 1.0)
    assert "CI not computed because only 19 samples" in metrics["__ERROR__"]


def test_no_method_is_no_interval(rows):
    """As TFMA has it."""
    metrics = found(rows, with_intervals("UNKNOWN_CONFIDENCE_INTERVAL_METHOD"))
    assert metrics[()]["binary_accuracy"] == pytest.approx(0.8)


def test_slices_below_the_minimum_are_left_out(rows):
    """As TFMA's option has it."""
    eval_config = config("example_count")
    eval_config.options.min_slice_size.value = 30
    assert {key: metrics["example_count"] for key, metrics in found(rows, eval_config).items()} == {
        (): 1000,
        (("f", 1),): 30,
    }


def test_metrics_of_answers_that_are_not_numbers_are_none(rows):
    """In the slices that have such an answer, whatever the metric; what follows from labels alone stays."""
    answers = rows.predictions["candidate"].copy()
    answers[7], answers[40] = np.nan, np.inf
    ill = dataclasses.replace(rows, predictions={**rows.predictions, "candidate": answers})
    well, metrics = (found(one, config("auc", "binary_accuracy", "example_count")) for one in (rows, ill))
    for key in ((), (("f", 1),), (("f", 2),)):
        assert np.isnan(metrics[key]["auc"])
        assert np.isnan(metrics[key]["binary_accuracy"])
        assert metrics[key]["example_count"] == well[key]["example_count"]
    answers[7] = 0.0
    assert np.isfinite(found(ill, config("binary_accuracy"))[(("f", 1),)]["binary_accuracy"])
