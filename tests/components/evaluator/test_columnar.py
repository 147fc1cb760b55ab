"""Short cuts are taken where they give TFMA's figures, and nowhere else."""

from __future__ import annotations

import logging

import numpy as np
import pytest

RANDOM = np.random.default_rng(3)


@pytest.fixture(scope="module")
def rows():
    """A hundred labels of 0 and 1 with predictions of two models."""
    from components.evaluator.rows import Rows

    labels = RANDOM.integers(0, 2, (100, 1))
    predictions = {name: RANDOM.random((100, 1)).astype(np.float32) for name in ("candidate", "champion")}
    return Rows(100, dict.fromkeys(predictions, labels), predictions, {(): np.arange(100)})


def config(*metrics):
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.utils import update_eval_config_with_defaults

    from tests.components.evaluator.problems import metric

    specs = [
        config_pb2.ModelSpec(name=name, label_key="l", is_baseline=name == "champion")
        for name in ("candidate", "champion")
    ]
    found = config_pb2.EvalConfig(
        model_specs=specs, metrics_specs=[config_pb2.MetricsSpec(metrics=[metric(name) for name in metrics])]
    )
    return update_eval_config_with_defaults(found, has_baseline=True, rubber_stamp=True)


def values(rows, eval_config):
    """Figures of the whole by name, model and whether they are differences."""
    from components.evaluator.compute import metrics_per_slice

    ((key, metrics),) = metrics_per_slice(rows, eval_config, None)
    assert key == ()
    return {(k.name, k.model_name, k.is_diff): v for k, v in metrics.items()}


ALL = ("auc", "binary_accuracy", "binary_crossentropy", "calibration", "coefficient_of_discrimination", "example_count",
       "hinge", "mean_absolute_error", "squared_pearson_correlation")  # fmt: skip


def test_without_short_cuts_the_figures_are_the_same(rows, monkeypatch, caplog):
    """Row by row, as TFMA does it, and the log says so."""
    from components.evaluator import columnar

    fast = values(rows, config(*ALL))
    assert not caplog.text
    monkeypatch.setattr(columnar, "_MAKERS", {})
    with caplog.at_level(logging.WARNING):
        slow = values(rows, config(*ALL))
    assert slow.keys() == fast.keys()
    assert fast == {key: pytest.approx(value, rel=1e-6) for key, value in slow.items()}
    assert "hinge is computed row by row: there is no short cut for tf_metric_wrapper" in caplog.text


def test_a_wrong_short_cut_is_not_taken(rows, monkeypatch, caplog):
    """It is held against TFMA's own figures first."""
    from components.evaluator import columnar

    right = values(rows, config("mean_absolute_error"))
    name = "mean_regression_error._MeanAbsoluteErrorCombiner"
    wrong = columnar._regression(lambda label, found: np.absolute(label - found) + 0.01)
    monkeypatch.setitem(columnar._MAKERS, name, wrong)
    with caplog.at_level(logging.WARNING):
        assert values(rows, config("mean_absolute_error")) == {k: pytest.approx(v) for k, v in right.items()}
    assert "the short cut gives other figures than TFMA" in caplog.text


SUMMED = ("auc", "binary_accuracy", "binary_crossentropy", "calibration", "coefficient_of_discrimination", "example_count",
          "mean_absolute_error", "mean_absolute_percentage_error", "squared_pearson_correlation")  # fmt: skip


def test_no_more_than_a_chunk_of_rows_is_worked_on_at_a_time(rows, monkeypatch):
    """Whatever their number: of all rows, labels and predictions alone are held."""
    from components.evaluator import columnar

    chunks = []
    first = columnar._column
    monkeypatch.setattr(columnar, "_column", lambda array: (chunks.append(len(array)), first(array))[1])
    whole = values(rows, config(*SUMMED))
    assert max(chunks) == rows.count
    chunks.clear()
    monkeypatch.setattr(columnar, "_CHUNK_ROWS", 9)
    assert values(rows, config(*SUMMED)) == {key: pytest.approx(value, rel=1e-12) for key, value in whole.items()}
    assert 0 < max(chunks) <= 9


def test_leaving_out_each_group_is_to_accumulate_the_others(rows):
    """By columns, where each row is added up once, as row by row; an empty group leaves all out of none."""
    from tensorflow_model_analysis.metrics import metric_specs, metric_types

    from components.evaluator.columnar import ByColumns, _same, accumulate_by_rows, accumulator_of, leaving_out_each

    eval_config = config(*SUMMED)
    computations = metric_specs.to_computations(list(eval_config.metrics_specs), eval_config=eval_config)
    part = RANDOM.integers(4, size=100)
    groups = [np.flatnonzero(part == one) for one in range(5)]
    found = [one for one in computations if isinstance(one, metric_types.MetricComputation)]
    for one in found:
        fast, slow = accumulator_of(one, rows), accumulate_by_rows(one.combiner, rows)
        assert isinstance(fast, ByColumns)
        pairs = list(zip(leaving_out_each(fast, groups), leaving_out_each(slow, groups), strict=True))
        assert len(pairs) == 6
        assert all(_same(*map(one.combiner.extract_output, pair)) for pair in pairs)
        assert _same(
            one.combiner.extract_output(pairs[2][1]), one.combiner.extract_output(slow(np.flatnonzero(part != 1)))
        )
    assert len(found) > len(SUMMED)


def test_differences_are_the_candidate_s_less_the_champion_s(rows):
    """For every metric that both have."""
    found = values(rows, config("auc", "calibration"))
    for name in ("auc", "calibration"):
        difference = found[name, "candidate", False] - found[name, "champion", False]
        assert found[name, "candidate", True] == pytest.approx(difference)
    assert not any(name.startswith("_") for name, _, _ in found)


@pytest.mark.parametrize(
    ("labels", "predictions", "reason"),
    [
        (np.full((9, 1), 2), np.full((9, 1), 0.5, np.float32), None),
        (np.array([[b"a"]] * 9), np.full((9, 1), 0.5, np.float32), None),
    ],
)
def test_what_tfma_refuses_is_refused(labels, predictions, reason):
    """Labels beyond 1 and text have no short cut to an AUC: TFMA's own error comes out."""
    from components.evaluator.rows import Rows

    models = ("candidate", "champion")
    odd = Rows(9, dict.fromkeys(models, labels), dict.fromkeys(models, predictions), {(): np.arange(9)})
    with pytest.raises((ValueError, TypeError)):
        values(odd, config("auc"))


def test_a_metric_that_needs_features_is_left_to_beam(rows):
    """Rows here are labels and predictions."""
    from tensorflow_model_analysis.metrics import metric_types

    from components.evaluator.columnar import accumulator_of
    from components.evaluator.fit import Unsupported

    class Other(metric_types.StandardMetricInputsPreprocessor):
        pass

    key = metric_types.MetricKey("m")
    for preprocessor, reason in (
        (Other(), "prepares its rows with Other"),
        (metric_types.StandardMetricInputsPreprocessor({"features": {}}, False), "needs features of its rows"),
    ):
        computation = metric_types.MetricComputation([key], [preprocessor], None)
        with pytest.raises(Unsupported, match=reason):
            accumulator_of(computation, rows)
    plot = metric_types.MetricComputation([metric_types.PlotKey("curve")], None, None)
    with pytest.raises(Unsupported, match="curve is a plot"):
        accumulator_of(plot, rows)
