"""Our figures are those of TFX's own Evaluator: every metric of the catalogue, on the whole and per slice."""

from __future__ import annotations

import dataclasses

import pytest

from tests.components.evaluator.conftest import assert_same, figures, number

pytestmark = pytest.mark.slow

TAXI_SLICES = (
    {"feature_keys": ["hour"]},  # a transformed feature
    {"feature_keys": ["payment_type"]},  # raw text
    {"feature_keys": ["company"]},  # raw text, missing in many rows
    {"feature_keys": ["trip_start_day", "payment"]},  # both
    {"feature_keys": ["trip_start_month"], "feature_values": {"payment_type": "Cash"}},
    {"feature_keys": ["no_such_feature"]},
)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # TFMA's logarithms and divisions by nothing
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of NumPy and Keras, inside TFMA
@pytest.mark.parametrize(
    ("name", "label", "metrics", "slices", "least"),
    [
        ("taxi", "big_tipper", "BINARY", TAXI_SLICES, 1000),
        ("taxi", "big_tipper", "WHOLE", (), 1),
        ("penguins", "species", "SEVERAL_CLASSES", ({"feature_keys": ["species"]},), 20),
        ("penguins", "one_hot", "ONE_HOT", ({"feature_keys": ["species"]},), 15),
        ("tips", "tips", "REGRESSION", ({"feature_keys": ["trip_start_day"]}, {"feature_keys": ["payment_type"]}), 100),
    ],
)
def test_figures_are_the_stock_component_s(
    name, label, metrics, slices, least, problems, ours, stock, tmp_path, caplog
):
    """For candidate and champion, in one pass, without Beam."""
    from tests.components.evaluator import problems as catalogue

    problem = dataclasses.replace(problems[name], label=label)
    config = problem.config(getattr(catalogue, metrics), slices)
    mine, theirs = ours(problem, config, tmp_path / "ours"), stock(problem, config, tmp_path / "stock")
    assert "on Beam" not in caplog.text
    assert assert_same(mine, theirs, "candidate") > least
    assert assert_same(mine, theirs, "champion") > least


def test_no_metric_of_the_catalogue_is_left_out():
    """A metric that is added there is held against the stock component here."""
    from schemas.metrics import QUALITY
    from tests.components.evaluator import problems as catalogue

    tested = {
        *catalogue.BINARY,
        *catalogue.WHOLE,
        *catalogue.SEVERAL_CLASSES,
        *catalogue.ONE_HOT,
        *catalogue.REGRESSION,
    }
    assert tested >= set(QUALITY)


def test_a_candidate_alone(problems, ours, stock, tmp_path):
    """The first run: TFMA drops the name of a model that it evaluates alone, and so do we."""
    from components.evaluation.figures import read_figures

    problem = problems["taxi"]
    config = problem.config(["auc", "binary_accuracy", "example_count"], [{"feature_keys": ["hour"]}])
    mine = ours(problem, config, tmp_path / "ours", champion=False)
    theirs = stock(problem, config, tmp_path / "stock", champion=False)
    assert assert_same(mine, theirs, "") == 3 * len(figures(mine, ""))
    read, wanted = (
        {(one.metric, str(one.slice)): (one.value, one.n) for one in read_figures(str(folder), "d", champion=False)}
        for folder in (mine, theirs)
    )
    assert read == {key: (pytest.approx(value), n) for key, (value, n) in wanted.items()}
    assert read_figures(str(mine), "d", champion=True) == []


def test_what_does_not_fit_goes_to_beam(problems, ours, stock, tmp_path, caplog):
    """With the reason in the log, and the same figures."""
    from tensorflow_model_analysis.proto import config_pb2

    problem = problems["taxi"]
    config = problem.config(["binary_accuracy"], [{"feature_keys": ["payment_type"]}])
    config.cross_slicing_specs.append(
        config_pb2.CrossSlicingSpec(
            baseline_spec=config_pb2.SlicingSpec(),
            slicing_specs=[config_pb2.SlicingSpec(feature_keys=["payment_type"])],
        )
    )
    mine = ours(problem, config, tmp_path / "ours")
    assert "with TFMA on Beam, which takes longer: slices are compared with each other" in caplog.text
    theirs = stock(problem, config, tmp_path / "stock")
    assert assert_same(mine, theirs, "candidate") > 3


def test_intervals_are_like_the_stock_component_s(problems, ours, stock, tmp_path):
    """The parts are drawn at random, there without a seed: the same figures, with intervals of about the same width."""
    from tensorflow_model_analysis.proto import config_pb2

    problem = problems["taxi"]
    config = problem.config(["binary_accuracy", "auc", "example_count"])
    mine = ours(problem, config, tmp_path / "ours", intervals="jackknife")
    config.options.compute_confidence_intervals.value = True
    config.options.confidence_intervals.method = config_pb2.ConfidenceIntervalOptions.JACKKNIFE
    theirs = stock(problem, config, tmp_path / "stock")
    for model in ("candidate", "champion"):
        (got,), (wanted,) = (list(figures(folder, model).values()) for folder in (mine, theirs))
        assert got.keys() == wanted.keys()
        assert number(got["example_count"]) == number(wanted["example_count"])
        for name in ("binary_accuracy", "auc"):
            one, other = got[name]["boundedValue"], wanted[name]["boundedValue"]
            assert one["value"] == pytest.approx(other["value"], rel=1e-6)
            widths = [bounds["upperBound"] - bounds["lowerBound"] for bounds in (one, other)]
            assert 0.4 < widths[0] / widths[1] < 2.5
