"""What a person is told to change."""

from __future__ import annotations

import pytest

from components.gate.words import change_needed, is_upper, label
from schemas.decision import GateResult


def result(**fields: object) -> GateResult:
    given = {"gate": "g", "condition": "min", "metric": "binary_accuracy", "verdict": "fail", "reason": "", **fields}
    return GateResult.model_validate(given)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"slice": {"hour": "3"}, "value": 0.738, "limit": 0.75, "margin": -0.012},
            "binary_accuracy[hour=3] has to rise by 0.012, to 0.75",
        ),
        (
            {"metric": "latency_p99_ms", "condition": "max", "unit": "ms", "batch_size": 8, "value": 25.5, "limit": 20,
             "margin": -5.5},
            "latency_p99_ms[batch 8] has to fall by 5.5 ms, to 20 ms",
        ),
        (
            {"verdict": "inconclusive", "value": 0.76, "limit": 0.75, "margin": 0.01, "interval": (0.74, 0.78)},
            "binary_accuracy has to rise by 0.01, or be measured on more examples, for its interval to clear the limit",
        ),
        (
            {"verdict": "inconclusive", "metric": "latency_p50_ms", "condition": "max", "unit": "ms", "value": 9.5,
             "limit": 10, "margin": 0.5, "interval": (9, 10.5)},
            "latency_p50_ms has to fall by 0.5 ms, or be measured on more repetitions, for its interval to clear the limit",
        ),
        (
            {"condition": "max_gap", "value": 0.35, "limit": 0.3, "margin": -0.05},
            "binary_accuracy[between slices] has to fall by 0.05, to 0.3",
        ),
        (
            {"verdict": "inconclusive", "metric": "throughput_per_s", "unit": "1/s", "batch_size": 1, "value": 90,
             "limit": 80, "margin": 10, "interval": (70, 110)},
            "throughput_per_s[batch 1] has to rise by 10 1/s, or be measured on more repetitions, for its interval to clear"
            " the limit",
        ),
        (
            {"metric": "latency_p50_ms", "condition": "max_ratio_to_champion", "unit": "ms", "value": 3.0, "limit": 2.4,
             "margin": -0.2, "champion": 2.0},
            "latency_p50_ms has to fall by 0.2 ms",
        ),
        ({"verdict": "not_measured"}, "binary_accuracy has to be measured"),
        (
            {"verdict": "not_measured", "condition": "max_drop", "value": 0.9},
            "binary_accuracy of the champion has to be measured, or its lack accepted: --accept-without-champion",
        ),
        ({"verdict": "pass", "value": 0.9, "limit": 0.75, "margin": 0.15}, ""),
        ({"verdict": "too_few_examples"}, ""),
    ],
)  # fmt: skip
def test_what_would_have_to_change(fields: dict[str, object], text: str) -> None:
    """With the amount and the unit, in the direction that helps; nothing for what does not block."""
    assert change_needed(result(**fields)) == text


@pytest.mark.parametrize(
    ("metric", "condition", "upper"),
    [
        ("auc", "min", False),
        ("auc", "max", True),
        ("auc", "max_gap", True),
        ("auc", "max_drop", False),
        ("mean_squared_error", "max_drop", True),
        ("auc", "at_least_champion_minus", False),
        ("latency_p50_ms", "max_ratio_to_champion", True),
    ],
)
def test_which_side_a_limit_is_on(metric: str, condition: str, upper: bool) -> None:
    """A comparison with the champion follows the direction of the metric."""
    assert is_upper(result(metric=metric, condition=condition)) is upper


def test_what_was_judged_is_told_from_others_of_its_name() -> None:
    """By slice, payload, batch size, and what it is held against."""
    assert label(result()) == "binary_accuracy"
    told = label(result(slice={"a": "1", "b": "2"}, payload="tflite", batch_size=4, against="trained"))
    assert told == "binary_accuracy[a=1, b=2, tflite, batch 4, against trained]"
