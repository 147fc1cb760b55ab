"""The smallest variant that passes every gate ships; none ships where none passes, and the ladder says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.gate.decide import Champion, decide
from components.tflite.select import choose, joined
from schemas.config import GatesConfig
from schemas.decision import Decision, Figure
from schemas.tflite import VARIANTS, Export, VariantRecord

SIZES = {"float32": 400, "float16": 200, "dynamic_int8": 120, "int8": 100, "int16x8": 110}


def digest(variant):
    return f"digest of {variant}"


def export(**problems):
    records = [
        VariantRecord(variant=name, digest=digest(name), size_bytes=SIZES[name], problems=problems.get(name, ()))
        for name in VARIANTS
    ]
    return Export(
        saved_model="s", takes="transformed", before_calling=(), representative_rows=1, variants=tuple(records)
    )


def figure(variant, metric, value, **more):
    return Figure(metric=metric, value=value, payload="tflite", digest=digest(variant), **more)


def figures(auc, difference=None):
    return [
        *(figure(name, "auc", value) for name, value in auc.items()),
        *(figure(name, "max_abs_difference", value) for name, value in (difference or {}).items()),
        *(figure(name, "size_mb", SIZES[name] / 1e6) for name in auc),
    ]


def gates(*satisfy):
    return GatesConfig.model_validate({"satisfy": satisfy}, strict=False)


AUC = {"metric": "auc", "payload": "tflite", "min": 0.9}
GOOD = dict.fromkeys(VARIANTS, 0.95)


def test_the_smallest_is_chosen():
    """All pass: the smallest ships, and the ladder stands in order of size."""
    decision = choose(export(), figures(GOOD), gates(AUC), None)
    assert (decision.outcome, decision.variant, decision.digest) == ("push", "int8", digest("int8"))
    assert [rung.variant for rung in decision.ladder] == ["int8", "int16x8", "dynamic_int8", "float16", "float32"]
    assert [rung.verdict for rung in decision.ladder] == ["chosen", *["passes"] * 4]
    assert decision.ladder[0].figures == {"size_mb": 100 / 1e6, "auc": 0.95}
    assert decision.reasons == ("int8 is the smallest that passes",)


def test_a_smaller_one_that_fails_is_passed_over():
    """Every gate counts, not the size alone, and the reason names what was passed over."""
    decision = choose(export(), figures({**GOOD, "int8": 0.8}), gates(AUC), None)
    assert decision.variant == "int16x8"
    assert decision.ladder[0].verdict == "blocked"
    assert decision.ladder[0].gates[0].payload == "tflite"
    assert decision.reasons == ("int16x8 is the smallest that passes; int8 is smaller and does not",)


def test_none_passes_and_each_says_why():
    """The push is blocked with one reason for each variant."""
    decision = choose(export(int8=("lost its weights",)), figures(dict.fromkeys(VARIANTS, 0.5)), gates(AUC), None)
    assert (decision.outcome, decision.variant, decision.digest) == ("block", "", "")
    assert decision.reasons[0] == "int8: lost its weights"
    assert decision.reasons[1] == "int16x8: auc fail: 0.5 is not at least 0.9"
    assert len(decision.reasons) == 5


def test_a_figure_that_is_not_there_blocks():
    """Not measured is not passed."""
    decision = choose(export(), figures({"float32": 0.95}), gates(AUC), None)
    assert decision.variant == "float32"
    assert {rung.verdict for rung in decision.ladder if rung.variant != "float32"} == {"blocked"}


def test_what_answers_nan_is_unfit_whatever_the_gates_ask():
    """The problem that was found when the file was run stands on the rung."""
    sick = figure("int8", "max_abs_difference", None, why_not="answers NaN on 3 rows")
    decision = choose(export(), [*figures(GOOD), sick], gates(AUC), None)
    assert decision.variant == "int16x8"
    assert (decision.ladder[0].verdict, decision.ladder[0].problems) == ("unfit", ("answers NaN on 3 rows",))


def test_a_variant_without_a_file_stands_last():
    """It has no size to be sorted by."""
    made = export().model_copy(
        update={"variants": (VariantRecord(variant="int8", problems=("does not convert",)), *export().variants[:1])}
    )
    decision = choose(made, figures({"float32": 0.95}), gates(AUC), None)
    assert [rung.variant for rung in decision.ladder] == ["float32", "int8"]
    assert decision.ladder[1].verdict == "unfit"


def test_a_gate_may_name_one_variant():
    """It counts for that one alone."""
    strict = {"metric": "auc", "payload": "tflite", "variant": "int8", "min": 0.99}
    decision = choose(export(), figures(GOOD), gates(AUC, strict), None)
    assert decision.variant == "int16x8"
    assert [result.gate for result in decision.ladder[0].gates if result.blocks] == ["gates.satisfy.1"]
    assert [result.gate for result in decision.ladder[1].gates] == ["gates.satisfy.0"]


def test_gates_on_the_saved_model_do_not_count_here_and_the_other_way_round():
    """Each payload has its own."""
    both = gates({"metric": "auc", "min": 0.99}, AUC)
    assert choose(export(), figures(GOOD), both, None).variant == "int8"
    saved = decide(both, "s", [Figure(metric="auc", value=0.995, digest="s")], None)
    assert [result.gate for result in saved.gates] == ["gates.satisfy.0"]


def test_what_devices_have_already_is_not_pushed_again():
    """Equal bytes are no new version."""
    decision = choose(export(), figures(GOOD), gates(AUC), Champion(digest("int8"), 4))
    assert (decision.outcome, decision.champion_version) == ("already_served", 4)
    assert "devices have it already" in decision.reasons[0]


def test_a_drop_is_measured_against_the_file_that_devices_have():
    """The champion is a file, not a SavedModel."""
    drop = {"metric": "auc", "payload": "tflite", "max_drop": 0.005}
    champion = Champion("old", 1, [Figure(metric="auc", value=0.96, payload="tflite", digest="old")])
    decision = choose(export(), figures({**GOOD, "float32": 0.958}), gates(drop), champion)
    assert decision.variant == "float32"
    assert decision.ladder[-1].gates[0].champion == 0.96


@pytest.mark.parametrize(("outcome", "blocks", "expected"), [
    ("push", False, "push"), ("push", True, "block"), ("already_served", True, "block"), ("block", False, "block"),
    ("pending", True, "block"),
])  # fmt: skip
def test_no_passing_variant_blocks_the_saved_model_where_it_is_told_to(outcome, blocks, expected):
    """The key decides, and the reason stands in the decision."""
    edge = choose(export(), figures({}), gates(AUC), None)
    decision = joined(Decision(outcome=outcome, digest="s", gates=(), reasons=("r",)), edge, blocks_saved_model=blocks)
    assert decision.outcome == expected
    assert decision.edge.outcome == "block"
    assert any("blocks_saved_model" in reason for reason in decision.reasons) == blocks


@pytest.mark.parametrize("outcome", ["block", "pending"])
def test_a_model_that_is_not_admitted_ships_in_no_form(outcome):
    """Files of a SavedModel that is blocked, or waits, are not pushed either."""
    edge = choose(export(), figures(GOOD), gates(AUC), None)
    decision = joined(Decision(outcome=outcome, digest="s", gates=(), reasons=("r",)), edge, blocks_saved_model=False)
    assert (decision.outcome, decision.edge.outcome) == (outcome, outcome)
    assert "the SavedModel that int8 is made of" in decision.edge.reasons[0]


@given(st.dictionaries(st.sampled_from(VARIANTS), st.floats(0, 1)))
def test_the_chosen_one_passes_and_no_smaller_one_does(auc):
    """Whatever was measured."""
    decision = choose(export(), figures(auc), gates(AUC), None)
    passing = {name for name, value in auc.items() if value >= 0.9}
    expected = min(passing, key=lambda name: SIZES[name], default="")
    assert decision.variant == expected
    assert (decision.outcome == "block") == (not passing)
