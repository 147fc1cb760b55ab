"""The gate's rules: which verdict each figure gets, and what is decided of them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.gate.decide import Champion, decide
from schemas.config import GatesConfig
from schemas.decision import Decision, Figure

NEW, OLD = "new" * 10, "old" * 10
finite = st.floats(-1e6, 1e6)


def gates(*satisfy: dict[str, object], optimize: dict[str, object] | None = None) -> GatesConfig:
    return GatesConfig.model_validate({"satisfy": satisfy, "optimize": optimize}, strict=False)


def figure(metric: str, value: float | None, digest: str = NEW, **fields: object) -> Figure:
    return Figure.model_validate({"metric": metric, "value": value, "digest": digest, **fields})


def champion(*figures: Figure) -> Champion:
    return Champion(OLD, 3, figures)


def verdicts(decision: Decision) -> list[str]:
    return [result.verdict for result in decision.gates]


def test_a_value_on_the_limit_passes_and_one_below_blocks() -> None:
    """`min` is inclusive, and the block says value, limit and gate."""
    gate = gates({"metric": "auc", "min": 0.75})
    assert decide(gate, NEW, [figure("auc", 0.75)], None).outcome == "push"
    blocked = decide(gate, NEW, [figure("auc", 0.7)], None)
    assert blocked.outcome == "block"
    assert blocked.reasons == ("gates.satisfy.0: auc fail: 0.7 is not at least 0.75",)
    assert blocked.gates[0].margin == pytest.approx(-0.05)


def test_a_maximum_blocks_above_it() -> None:
    """`max` is inclusive as well."""
    gate = gates({"metric": "mean_squared_error", "max": 2.0})
    assert decide(gate, NEW, [figure("mean_squared_error", 2.0)], None).outcome == "push"
    assert decide(gate, NEW, [figure("mean_squared_error", 2.1)], None).reasons[0].endswith("2.1 is not at most 2")


@pytest.mark.parametrize("found", [[], [figure("auc", None)]])
def test_what_was_not_measured_blocks(found: list[Figure]) -> None:
    """A figure that is absent, or is no number, is not a pass."""
    decision = decide(gates({"metric": "auc", "min": 0.1}), NEW, found, None)
    assert (decision.outcome, verdicts(decision)) == ("block", ["not_measured"])
    assert "was not measured" in decision.reasons[0]


def test_a_comparison_without_a_champion_passes_and_says_so() -> None:
    """The first run has nothing to compare with."""
    gate = gates({"metric": "auc", "max_drop": 0.01}, optimize={"metric": "auc"})
    decision = decide(gate, NEW, [figure("auc", 0.8)], None)
    assert (decision.outcome, set(verdicts(decision))) == ("push", {"no_champion"})


def test_a_drop_is_measured_in_the_direction_of_the_metric() -> None:
    """For an error, worse is higher."""
    drop = gates({"metric": "mean_squared_error", "max_drop": 0.5})
    served = champion(figure("mean_squared_error", 1.0, OLD))
    assert decide(drop, NEW, [figure("mean_squared_error", 1.5)], served).outcome == "push"
    blocked = decide(drop, NEW, [figure("mean_squared_error", 1.6)], served)
    assert blocked.reasons == ("gates.satisfy.0: mean_squared_error fail: 1.6 is not at most 1.5 (champion 1)",)
    assert blocked.gates[0].champion == 1.0


def test_the_optimizing_metric_must_not_fall_below_the_champion() -> None:
    """`at_least_champion_minus` is the allowance."""
    gate = gates(optimize={"metric": "auc", "at_least_champion_minus": 0.01})
    served = champion(figure("auc", 0.9, OLD))
    assert decide(gate, NEW, [figure("auc", 0.895)], served).outcome == "push"
    blocked = decide(gate, NEW, [figure("auc", 0.88)], served)
    assert blocked.reasons == ("gates.optimize: auc fail: 0.88 is not at least 0.89 (champion 0.9)",)


def test_a_ratio_holds_the_candidate_against_the_champion() -> None:
    """For what should be small."""
    gate = gates({"metric": "mean_absolute_error", "max_ratio_to_champion": 1.2})
    served = champion(figure("mean_absolute_error", 2.0, OLD))
    assert decide(gate, NEW, [figure("mean_absolute_error", 2.4)], served).outcome == "push"
    assert decide(gate, NEW, [figure("mean_absolute_error", 2.5)], served).outcome == "block"
    assert decide(gate, NEW, [figure("mean_absolute_error", 2.5)], None).outcome == "push"


def test_a_champion_without_the_figure_blocks() -> None:
    """A champion that could not be evaluated is no reason to let anything through."""
    decision = decide(gates({"metric": "auc", "max_drop": 0.1}), NEW, [figure("auc", 0.9)], champion())
    assert verdicts(decision) == ["not_measured"]
    assert "champion (version 3)" in decision.reasons[0]


@pytest.mark.parametrize("found", [[], [figure("mean_absolute_error", None)]])
@pytest.mark.parametrize("condition", [{"max_drop": 0.1}, {"max_ratio_to_champion": 1.2}])
def test_a_candidate_without_the_figure_blocks_a_comparison(found: list[Figure], condition: dict[str, float]) -> None:
    """With and without a champion to compare it with."""
    gate = gates({"metric": "mean_absolute_error", **condition})
    for served in (None, champion(figure("mean_absolute_error", 0.9, OLD))):
        decision = decide(gate, NEW, found, served)
        assert (decision.outcome, verdicts(decision)) == ("block", ["not_measured"])
        assert "mean_absolute_error was not measured" in decision.reasons[0]


def test_the_champion_itself_is_already_served_unless_a_limit_blocks_it() -> None:
    """No comparison with itself; absolute limits still count."""
    itself = Champion(NEW, 3)
    gate = gates({"metric": "auc", "min": 0.5}, optimize={"metric": "auc"})
    decision = decide(gate, NEW, [figure("auc", 0.8)], itself)
    assert decision.outcome == "already_served"
    assert decision.reasons == ("the candidate's bytes are those of version 3, which is served",)
    assert decide(gates({"metric": "auc", "min": 0.9}), NEW, [figure("auc", 0.8)], itself).outcome == "block"


def test_each_slice_is_judged_and_small_ones_are_only_reported() -> None:
    """One bad hour blocks; an hour with few examples does not, and is named."""
    gate = gates({"metric": "auc", "slice_by": ("hour",), "min": 0.5, "min_examples": 10})
    found = [
        figure("auc", 0.8, slice={"hour": "2"}, n=50),
        figure("auc", 0.4, slice={"hour": "10"}, n=50),
        figure("auc", 0.1, slice={"hour": "3"}, n=9),
        figure("auc", 0.9, n=109),
    ]
    decision = decide(gate, NEW, found, None)
    assert [(r.slice["hour"], r.verdict) for r in decision.gates] == [
        ("10", "fail"),
        ("2", "pass"),
        ("3", "too_few_examples"),
    ]
    assert decision.reasons == ("gates.satisfy.0: auc[hour=10] fail: 0.4 is not at least 0.5",)
    assert "9 examples, fewer than the 10" in decision.gates[2].reason


def test_a_slice_that_no_example_has_is_not_a_pass() -> None:
    """A sliced gate that judged nothing blocks."""
    gate = gates({"metric": "auc", "slice_by": ("hour",), "min": 0.5})
    decision = decide(gate, NEW, [figure("auc", 0.9)], None)
    assert verdicts(decision) == ["not_measured"]
    assert "no example has hour" in decision.reasons[0]


def test_slices_are_compared_with_the_same_slice_of_the_champion() -> None:
    """Not with the whole."""
    gate = gates({"metric": "auc", "slice_by": ("hour",), "max_drop": 0.1})
    served = champion(figure("auc", 0.9, OLD), figure("auc", 0.5, OLD, slice={"hour": "1"}))
    assert decide(gate, NEW, [figure("auc", 0.45, slice={"hour": "1"})], served).outcome == "push"
    assert verdicts(decide(gate, NEW, [figure("auc", 0.9, slice={"hour": "2"})], served)) == ["not_measured"]


def test_a_limit_inside_the_interval_is_inconclusive_and_blocks_unless_told_otherwise() -> None:
    """Noise larger than the margin is no pass."""
    found = [figure("auc", 0.76, interval=(0.7, 0.8))]
    assert verdicts(decide(gates({"metric": "auc", "min": 0.75}), NEW, found, None)) == ["inconclusive"]
    lenient = gates({"metric": "auc", "min": 0.75, "on_inconclusive": "pass"})
    assert decide(lenient, NEW, found, None).outcome == "push"
    assert decide(gates({"metric": "auc", "min": 0.69}), NEW, found, None).outcome == "push"


def test_what_blocks_comes_first_then_what_is_nearest_to_failing() -> None:
    """So that a reader sees first what matters."""
    gate = gates({"metric": "recall", "min": 0.1}, {"metric": "auc", "min": 0.99}, {"metric": "precision", "min": 0.8})
    found = [figure("recall", 0.9), figure("auc", 0.5), figure("precision", 0.81)]
    assert [r.metric for r in decide(gate, NEW, found, None).gates] == ["auc", "precision", "recall"]


def test_a_gate_of_which_every_slice_is_too_small_has_judged_nothing() -> None:
    """One small slice does not block; when all are, the gate is no pass."""
    gate = gates({"metric": "auc", "slice_by": ("hour",), "min": 0.5, "min_examples": 10})
    found = [figure("auc", 0.9, slice={"hour": hour}, n=3) for hour in "12"]
    decision = decide(gate, NEW, found, None)
    assert decision.outcome == "block"
    assert verdicts(decision) == ["not_measured", "too_few_examples", "too_few_examples"]
    assert "all 2 slices have fewer than 10 examples: nothing was judged" in decision.reasons[0]


def test_examples_that_stand_in_no_slice_are_noted() -> None:
    """A gate per company says nothing of the trips without one, and the decision says that."""
    gate = gates({"metric": "auc", "slice_by": ("company",), "min": 0.5})
    found = [figure("auc", 0.9, n=100), figure("auc", 0.9, slice={"company": "a"}, n=60)]
    assert decide(gate, NEW, found, None).notes == ("40 of 100 examples lack company and stand in no slice",)
    assert decide(gate, NEW, [found[0], found[1].model_copy(update={"n": 100})], None).notes == ()


def test_figures_of_other_bytes_do_not_count() -> None:
    """A figure belongs to the payload that it was measured on."""
    decision = decide(gates({"metric": "auc", "min": 0.5}), NEW, [figure("auc", 0.9, OLD)], None)
    assert verdicts(decision) == ["not_measured"]


def test_a_ratio_to_a_negative_champion_says_nothing() -> None:
    """-0.5 times 1.1 is below -0.5: an equal model would fail."""
    gate = gates({"metric": "mean_absolute_error", "max_ratio_to_champion": 1.1})
    served = champion(figure("mean_absolute_error", -0.5, OLD))
    assert verdicts(decide(gate, NEW, [figure("mean_absolute_error", -0.5)], served)) == ["not_measured"]


@given(value=finite, limit=finite, better=st.floats(0, 1e6))
def test_a_better_figure_never_turns_a_pass_into_a_block(value: float, limit: float, better: float) -> None:
    """Each gate is monotone in its figure."""
    gate = gates({"metric": "auc", "min": limit})
    if decide(gate, NEW, [figure("auc", value)], None).outcome == "push":
        assert decide(gate, NEW, [figure("auc", value + better)], None).outcome == "push"


@given(values=st.lists(finite, min_size=1, max_size=5), limit=finite)
def test_one_gate_more_never_admits_more(values: list[float], limit: float) -> None:
    """Gates only ever take away."""
    found = [figure("auc", value, slice={"hour": str(i)}) for i, value in enumerate(values)]
    sliced = {"metric": "auc", "slice_by": ("hour",), "min": limit}
    fewer = decide(gates(sliced), NEW, found, None)
    more = decide(gates(sliced, {"metric": "recall", "min": 0.0}), NEW, found, None)
    assert more.outcome == "block"
    assert (fewer.outcome == "push") == (min(values) >= limit)


@given(value=finite, limit=finite, served=finite)
def test_the_sign_of_the_margin_says_the_verdict(value: float, limit: float, served: float) -> None:
    """A margin is positive on the good side."""
    gate = gates({"metric": "auc", "min": limit}, {"metric": "auc", "max_drop": 0.1})
    decision = decide(gate, NEW, [figure("auc", value)], champion(figure("auc", served, OLD)))
    for result in decision.gates:
        assert result.margin is not None
        assert (result.verdict == "pass") == (result.margin >= 0)
