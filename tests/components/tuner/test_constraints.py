"""Which gates a trial is held against, at which stage, and what is said of one that does not meet them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.tuner.constraints import at_build, constraints_of, left_to_the_gate, violations
from components.tuner.measure import of_files, of_saved_model
from schemas.config import GatesConfig, TFLiteConfig
from schemas.metrics import COUNTS


def gates(*satisfy: dict[str, Any]) -> GatesConfig:
    return GatesConfig.model_validate_json(json.dumps({"satisfy": satisfy}))


def test_each_gate_has_its_stage() -> None:
    """Parameters at once, quality when trained, costs of the payload when exported; slices and comparisons are the Gate's."""
    section = gates(
        {"metric": "parameters", "max": 100},
        {"metric": "auc", "min": 0.9},
        {"metric": "latency_p99_ms", "max": 20, "batch_size": 8},
        {"metric": "size_mb", "payload": "tflite", "max": 1},
        {"metric": "auc", "payload": "tflite", "min": 0.9},
        {"metric": "auc", "max_drop": 0.1},
        {"metric": "auc", "slice_by": ["hour"], "min": 0.5},
        {"metric": "max_abs_difference", "against": "trained", "max": 0.1},
        {"metric": "feature_skew", "slice_by": ["feature"], "max": 0},
    )
    found = constraints_of(section)
    assert [(one.gate[-1], one.stage, one.name) for one in found] == [
        ("0", "built", "parameters"),
        ("1", "trained", "auc"),
        ("2", "exported", "latency_p99_ms batch 8"),
        ("3", "exported", "tflite size_mb"),
    ]
    assert left_to_the_gate(section) == tuple(f"gates.satisfy.{index}" for index in (4, 5, 6, 7, 8))


def test_a_model_that_is_too_large_is_known_before_it_is_trained() -> None:
    """By its parameters, by the bytes of its weights, and by what its smallest file holds at least."""
    tflite = TFLiteConfig(variants=("float32", "dynamic_int8"))

    def broken(gate: dict[str, Any], files: TFLiteConfig | None = tflite) -> list[str]:
        return [one.metric for one in at_build(constraints_of(gates(gate)), 1_000_000, 4_000_000, 990_000, files)]

    assert broken({"metric": "parameters", "max": 999_999}) == ["parameters"]
    assert broken({"metric": "parameters", "max": 1_000_000}) == []
    assert broken({"metric": "parameters", "min": 1_000_001}) == ["parameters"]
    assert broken({"metric": "size_mb", "max": 3.9}) == ["size_mb"]
    assert broken({"metric": "size_mb", "max": 4.1}) == []
    assert broken({"metric": "size_mb", "payload": "tflite", "max": 0.9}) == ["tflite size_mb"]
    assert broken({"metric": "size_mb", "payload": "tflite", "max": 1.0}) == []
    assert broken({"metric": "size_mb", "payload": "tflite", "variant": "float32", "max": 1.0}) == ["tflite size_mb"]
    assert broken({"metric": "size_mb", "payload": "tflite", "max": 0.9}, None) == []
    assert broken({"metric": "size_mb", "min": 5}) == []


def test_quality_is_judged_as_far_as_it_was_logged() -> None:
    """A value on the limit meets it; a metric that the model does not log is not judged."""
    found = constraints_of(gates({"metric": "auc", "min": 0.9}, {"metric": "calibration", "max": 1.1}))
    assert violations(found, {"auc": 0.9}, "trained") == ()
    (one,) = violations(found, {"auc": 0.85}, "trained")
    assert str(one) == "auc 0.85, at least 0.9 allowed by gates.satisfy.0: 0.05 short"
    assert violations(found, {"auc": 0.1}, "built") == ()


@pytest.mark.parametrize("metric", sorted(COUNTS))
def test_counts_are_left_to_the_gate(metric: str) -> None:
    """Their limits are meant for the examples of `eval`, of which there are more, or fewer, than of `validate`."""
    section = gates({"metric": metric, "max": 50}, {"metric": "miss_rate", "max": 0.5})
    assert [one.metric for one in constraints_of(section)] == ["miss_rate"]
    assert left_to_the_gate(section) == ("gates.satisfy.0",)


def test_one_file_within_its_limits_is_enough() -> None:
    """The ladder ships the smallest that passes; where none does, the nearest is told of."""
    found = constraints_of(
        gates(
            {"metric": "size_mb", "payload": "tflite", "max": 1},
            {"metric": "size_mb", "payload": "tflite", "variant": "int8", "max": 0.2},
        )
    )
    assert of_files(found, {"float32": 2.0, "float16": 0.9}) == ()
    assert [one.value for one in of_files(found, {"float32": 2.0, "float16": 1.5})] == [1.5]
    assert [one.limit for one in of_files(found, {"int8": 0.3})] == [0.2]
    assert of_files(found, {}) == ()


def test_what_could_not_be_measured_is_left_to_the_gate() -> None:
    """The Gate blocks on `not_measured`; a trial is not called infeasible for it."""
    found = constraints_of(gates({"metric": "latency_p99_ms", "max": 20}))
    assert of_saved_model(found, {}) == ()
    assert [str(one) for one in of_saved_model(found, {"latency_p99_ms": 25.0})] == [
        "latency_p99_ms 25 ms, at most 20 ms allowed by gates.satisfy.0: 5 ms over"
    ]
