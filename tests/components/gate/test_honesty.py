"""Models that are wrong on purpose, measured by the real Evaluator, are blocked by exactly the gate that should.

The features hold the label in them: tips and fare. The good model sees the tips through noise; a leaky one sees them as
they are; one is wrong in a single hour; one is worse than the champion.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import json_format, text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from components.evaluation.eval_config import eval_config
from components.evaluator.executor import Executor
from components.gate.decide import Champion, decide
from schemas.config import GatesConfig
from schemas.decision import FIGURES_FILE, Decision, Figures
from tests.components.evaluator.problems import Problem, parsing_spec, save, taxi
from tests.workbench import REPOSITORY

HOUR = 19
Judge = Callable[..., Decision]


def transform(raw: dict[str, Any]) -> dict[str, Any]:
    return {"big_tipper": tf.cast(raw["tips"] > 0.2 * raw["fare"], tf.int64)}


def sees(noise: float, wrong_hour: int = -1) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Predicts the label; every so many rows, by their miles, it is told the wrong one, and in one hour always."""

    def predict(raw: dict[str, Any]) -> dict[str, Any]:
        label = tf.cast(raw["tips"] > 0.2 * raw["fare"], tf.float32)
        chance = tf.math.floormod(raw["trip_miles"] * 7919.0 + raw["fare"] * 104729.0, 1.0)
        wrong = (chance < noise) | (raw["trip_start_hour"] == wrong_hour)
        told = tf.where(wrong, 1.0 - label, label)
        return {"outputs": 0.02 + 0.88 * told + 0.03 * (chance - 0.5)}

    return predict


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return taxi(tmp_path_factory.mktemp("honesty"), rows=3000)


@pytest.fixture(scope="module")
def measured(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Figures]:
    """Evaluates a candidate beside a champion, with the metrics, slices and intervals of some gates."""
    text = (REPOSITORY / "schemas/taxi/schema.pbtxt").read_text()
    spec = parsing_spec(text_format.Parse(text, schema_pb2.Schema()))

    def measure(gates: GatesConfig, candidate: Any, champion: Any | None = None) -> Figures:
        folder = tmp_path_factory.mktemp("measured")
        models = [
            save(folder / name, spec, transform, one) for name, one in (("new", candidate), ("old", champion)) if one
        ]
        evaluation = standard_artifacts.ModelEvaluation()
        evaluation.uri = str(folder / "evaluation")
        both = replace(problem, models=(models[0], models[-1]))
        properties = {
            "eval_config": json_format.MessageToJson(eval_config(gates, "big_tipper")),
            "example_splits": json.dumps(["eval"]),
            "intervals": gates.intervals,
        }
        Executor(None).Do(both.inputs(champion is not None), {"evaluation": [evaluation]}, properties)
        return Figures.model_validate_json(Path(evaluation.uri, FIGURES_FILE).read_bytes())

    return measure


@pytest.fixture(scope="module")
def judged(measured: Callable[..., Figures]) -> Judge:
    def judge(raw: dict[str, Any], candidate: Any, champion: Any | None = None) -> Decision:
        gates = GatesConfig.model_validate_json(json.dumps({"intervals": "jackknife", **raw}))
        return decision_of(gates, measured(gates, candidate, champion))

    return judge


def decision_of(gates: GatesConfig, figures: Figures) -> Decision:
    champion = Champion(figures.champion, 1, figures.of(figures.champion)) if figures.champion else None
    return decide(gates, figures.candidate, figures.of(figures.candidate), champion)


def blocking(decision: Decision) -> set[str]:
    return {result.gate for result in decision.gates if result.blocks}


GATES = {
    "optimize": {"metric": "auc", "at_least_champion_minus": 0.02},
    "satisfy": [
        {"metric": "auc", "min": 0.7},
        {"metric": "auc", "max": 0.99},
        {"metric": "binary_accuracy", "min": 0.7},
        {"metric": "binary_accuracy", "slice_by": ["trip_start_hour"], "min": 0.5, "min_examples": 100},
        {"metric": "binary_accuracy", "slice_by": ["trip_start_hour"], "max_gap": 0.4, "min_examples": 100},
    ],
}


@pytest.mark.parametrize(
    ("candidate", "champion", "by"),
    [
        (sees(0.1), sees(0.1), set()),
        (sees(0.1), None, set()),
        (sees(0.16), sees(0.05), {"gates.optimize"}),
        (sees(0.0), sees(0.1), {"gates.satisfy.1"}),
        (sees(0.1, HOUR), None, {"gates.satisfy.3", "gates.satisfy.4"}),
    ],
    ids=["its equal", "the first", "worse than the champion", "leaky", "wrong in one hour"],
)
def test_each_is_blocked_by_the_gate_that_should(judged: Judge, candidate: Any, champion: Any, by: set[str]) -> None:
    """And by no other."""
    decision = judged(GATES, candidate, champion)
    assert blocking(decision) == by, decision.reasons
    assert decision.outcome == ("block" if by else "push")


def test_the_wrong_hour_is_named_with_its_figures(judged: Judge) -> None:
    """Slice and gap say which, how much, and on how many examples."""
    decision = judged(GATES, sees(0.1, HOUR))
    wrong = [result for result in decision.gates if result.blocks and result.slice]
    assert [result.slice for result in wrong] == [{"trip_start_hour": str(HOUR)}]
    assert wrong[0].value == 0.0
    assert wrong[0].n is not None
    assert wrong[0].n >= 100
    (gap,) = (result for result in decision.gates if result.condition == "max_gap" and result.blocks)
    assert gap.reason.endswith(f"0 on trip_start_hour={HOUR}")


def test_a_comparison_with_the_champion_is_made_in_pairs(judged: Judge) -> None:
    """On the same rows: of a model and itself the difference is 0, whatever its own interval."""
    (result,) = judged({"optimize": GATES["optimize"]}, sees(0.1), sees(0.1)).gates
    assert result.interval is not None
    low, high = result.interval
    assert result.value == result.champion
    assert high - low < 1e-9
    assert result.verdict == "pass"
