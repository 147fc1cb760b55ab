"""Which metrics and slices an evaluation measures, and that it judges nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_model_analysis.utils import config_util

from components.evaluation.eval_config import CANDIDATE, CHAMPION, KERAS_MODULE, eval_config, metrics_of, slices_of
from schemas.config import GatesConfig
from schemas.metrics import OF_FILES, PROFILED, QUALITY


def gates(*satisfy: dict[str, Any], optimize: dict[str, Any] | None = None) -> GatesConfig:
    return GatesConfig.model_validate({"satisfy": satisfy, "optimize": optimize}, strict=False)


def sliced(metric: str, *features: str) -> dict[str, Any]:
    return {"metric": metric, "slice_by": features, "min": 0.0}


def test_each_metric_once_in_the_order_of_the_gates() -> None:
    """The optimizing one first; figures of the payload are not measured here."""
    config = gates(
        {"metric": "binary_accuracy", "min": 0.5},
        {"metric": "size_mb", "max": 1.0},
        {"metric": "auc", "max_drop": 0.1},
        {"metric": "binary_accuracy", "max_drop": 0.1},
        optimize={"metric": "auc"},
    )
    assert metrics_of(config) == ["auc", "binary_accuracy"]
    assert metrics_of(gates({"metric": "latency_p99_ms", "max": 20})) == []


def test_each_slice_once_in_the_order_of_the_gates() -> None:
    """A cross of two features is a slice of its own, and its order is part of it."""
    config = gates(
        sliced("auc", "hour", "day"), sliced("auc", "hour"), sliced("recall", "hour"), {"metric": "auc", "min": 0.5}
    )
    assert slices_of(config) == [("hour", "day"), ("hour",)]
    specs = eval_config(config, "label").slicing_specs
    assert [list(spec.feature_keys) for spec in specs] == [[], ["hour", "day"], ["hour"]]


def test_both_models_are_asked_through_the_same_signature() -> None:
    """The one that takes tf.Examples; features and label come from the preprocessing in the model itself."""
    candidate, champion = eval_config(gates({"metric": "auc", "min": 0.5}), "big_tipper").model_specs
    assert (candidate.name, candidate.is_baseline) == (CANDIDATE, False)
    assert (champion.name, champion.is_baseline) == (CHAMPION, True)
    for model in (candidate, champion):
        assert model.model_type == "tf_generic"
        assert model.signature_name == "serving_examples"
        assert list(model.preprocessing_function_names) == ["transform_features"]
        assert model.label_key == "big_tipper"


def test_examples_are_counted_and_metrics_bear_the_names_of_the_gates() -> None:
    """Also those of Keras, which are named by their class otherwise. Labels are averaged, to find slices of one class."""
    config = gates({"metric": "auc", "min": 0.5}, {"metric": "poisson", "max": 1.0})
    (specs,) = eval_config(config, "label").metrics_specs
    count, auc, poisson, label = specs.metrics
    assert (label.class_name, json.loads(label.config)["name"]) == ("MeanLabel", "mean_label")
    assert (count.class_name, count.module, count.config) == ("ExampleCount", "", "")
    assert (auc.class_name, auc.module, json.loads(auc.config)) == ("AUC", "", {"name": "auc"})
    assert (poisson.class_name, poisson.module, json.loads(poisson.config)) == (
        "Poisson",
        KERAS_MODULE,
        {"name": "poisson"},
    )


def test_an_evaluation_of_payload_figures_alone_counts_examples() -> None:
    """There is nothing else to measure, and the Evaluator runs all the same."""
    (specs,) = eval_config(gates({"metric": "size_mb", "max": 1.0}), "label").metrics_specs
    assert [metric.class_name for metric in specs.metrics] == ["ExampleCount"]


@pytest.mark.parametrize("metric", sorted({*QUALITY, *PROFILED}))
def test_it_is_a_valid_evaluation_of_tfma(metric: str) -> None:
    """For each metric that a configuration may name, as TFMA itself checks it."""
    compared = {"against": "trained"} if metric in PROFILED and PROFILED[metric].key == "against" else {}
    if metric in OF_FILES:
        compared = {"payload": "tflite", **({"against": "saved_model"} if compared else {})}
    config_util.verify_eval_config(eval_config(gates({"metric": metric, "max": 1.0, **compared}), "label"))


conditions = st.sampled_from([{"min": 0.5}, {"max": 0.5}, {"max_gap": 0.5}, {"max_drop": 0.5}])
satisfying = st.builds(
    lambda metric, slice_by, condition: {"metric": metric, "slice_by": slice_by, **condition},
    st.sampled_from(["auc", "binary_accuracy", "recall", "mean_squared_error"]),
    st.sampled_from([("hour",), ("day", "hour"), ("day",)]),
    conditions,
)


@given(satisfy=st.lists(satisfying, min_size=1, max_size=8))
def test_no_gate_puts_a_threshold_into_the_evaluation(satisfy: list[dict[str, Any]]) -> None:
    """With one, the Evaluator would bless and block by itself: nowhere is there a limit, whatever the gates say."""
    config = eval_config(gates(*satisfy, optimize={"metric": "auc"}), "label")
    for specs in config.metrics_specs:
        assert not specs.thresholds
        assert not specs.per_slice_thresholds
        assert not specs.cross_slice_thresholds
        for metric in specs.metrics:
            assert not metric.HasField("threshold")
            assert not metric.per_slice_thresholds
            assert not metric.cross_slice_thresholds
    assert "threshold" not in str(config)
    measured = [metric.class_name for specs in config.metrics_specs for metric in specs.metrics]
    assert len(measured) == len(set(measured))
    keys = [tuple(spec.feature_keys) for spec in config.slicing_specs]
    assert len(keys) == len(set(keys))
