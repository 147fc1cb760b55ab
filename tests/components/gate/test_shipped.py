"""The gates of the shipped configurations, on figures that runs of theirs have left: each can block, and stands first."""

from __future__ import annotations

import pytest

from components.gate.decide import Champion, decide
from schemas.config import CONDITIONS, GatesConfig
from schemas.decision import Decision, Figure, Figures, Payload
from schemas.load import load_config
from tests.workbench import REPOSITORY

UNREACHABLE = {"min": 1e9, "max": -1e9, "max_gap": 0.0, "max_drop": 0.0, "max_ratio_to_champion": 1e-9}
FILES = {
    "taxi": "satisfice.yaml",
    "taxi.tflite": "satisfice.yaml",
    "penguin": "penguin.yaml",
    "digits": "digits.yaml",
    "digits.tflite": "digits.yaml",
}
PAYLOADS: dict[str, Payload] = {name: "tflite" if name.endswith(".tflite") else "saved_model" for name in FILES}
GATES = {name: load_config(REPOSITORY / file).config.gates for name, file in FILES.items()}
FIGURES = {
    name: Figures.model_validate_json((REPOSITORY / f"tests/resources/figures/{name}.json").read_bytes())
    for name in FILES
}
"""Of each pipeline's SavedModel, of the file that the taxi pipeline chose for devices, and of the digits pipeline's int8 file."""
EACH = [
    (name, index)
    for name, gates in GATES.items()
    for index, gate in enumerate(gates.satisfy)
    if gate.payload == PAYLOADS[name]
]


def judged(name: str, gates: GatesConfig, figures: Figures) -> Decision:
    champion = Champion(figures.champion, 1, figures.of(figures.champion))
    own = figures.of(figures.candidate)
    return decide(gates, figures.candidate, own, champion, payload=PAYLOADS[name], variant="int8")


def worse(figures: Figures, metric: str) -> Figures:
    """The candidate's quality is worse than it was by a half, the difference to the champion with it."""

    def lowered(one: Figure) -> Figure:
        if one.metric != metric or one.digest != figures.candidate or one.value is None:
            return one
        moved = {
            key: (interval[0] - 0.5, interval[1] - 0.5)
            for key in ("interval", "difference_interval")
            if (interval := getattr(one, key)) is not None
        }
        return one.model_copy(update={"value": one.value - 0.5, **moved})

    return figures.model_copy(update={"figures": tuple(map(lowered, figures.figures))})


def blocking(decision: Decision) -> set[str]:
    return {result.gate for result in decision.gates if result.blocks}


@pytest.mark.parametrize("name", FILES)
def test_they_admit_what_their_runs_made(name: str) -> None:
    """Every gate judged something: none is not measured, none lacks a champion."""
    decision = judged(name, GATES[name], FIGURES[name])
    assert decision.outcome == "push", decision.reasons
    assert {result.verdict for result in decision.gates} <= {"pass", "too_few_examples"}
    wanted = {f"gates.satisfy.{index}" for one, index in EACH if one == name}
    judged_by = {result.gate for result in decision.gates if result.verdict == "pass"}
    assert judged_by == (wanted | {"gates.optimize"} if PAYLOADS[name] == "saved_model" else wanted)


@pytest.mark.parametrize(("name", "index"), EACH)
def test_each_limit_set_to_the_unreachable_blocks_alone_and_stands_first(name: str, index: int) -> None:
    """As `--set gates.satisfy.N.min=…` would. No drop is unreachable, so that its candidate has to be worse."""
    gates, figures = GATES[name], FIGURES[name]
    gate = gates.satisfy[index]
    if gate.condition == "max_drop":
        figures = worse(figures, gate.metric)
    changed = gate.model_copy(update={gate.condition: UNREACHABLE[gate.condition]})
    satisfy = tuple(changed if number == index else one for number, one in enumerate(gates.satisfy))
    decision = judged(name, gates.model_copy(update={"satisfy": satisfy}), figures)
    assert decision.outcome == "block"
    assert decision.gates[0].gate == f"gates.satisfy.{index}"
    assert decision.reasons[0].startswith(f"gates.satisfy.{index}: {gate.metric}")
    assert decision.gates[0].verdict == "fail"
    if gate.condition != "max_drop":
        assert blocking(decision) == {f"gates.satisfy.{index}"}


@pytest.mark.parametrize("name", ["taxi", "penguin", "digits"])
def test_a_candidate_that_is_worse_is_blocked_by_what_is_optimized(name: str) -> None:
    """And named first where nothing else looks at it."""
    gates = GATES[name]
    assert gates.optimize is not None
    decision = judged(name, gates.model_copy(update={"satisfy": ()}), worse(FIGURES[name], gates.optimize.metric))
    assert (decision.outcome, decision.gates[0].gate) == ("block", "gates.optimize")


def test_every_condition_has_an_unreachable_limit() -> None:
    """A new one would not be forgotten."""
    assert set(UNREACHABLE) == set(CONDITIONS)


def test_no_shipped_gate_is_left_out() -> None:
    """Nor a shipped configuration."""
    assert {file.name for file in REPOSITORY.glob("*.yaml")} == set(FILES.values())
    assert {(FILES[name], index) for name, index in EACH} == {
        (FILES[name], index) for name, gates in GATES.items() for index in range(len(gates.satisfy))
    }
