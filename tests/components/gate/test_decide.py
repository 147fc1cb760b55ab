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


GAP = {"metric": "binary_accuracy", "slice_by": ("pay",), "max_gap": 0.3, "min_examples": 10}


def by_pay(*values: tuple[str, float | None, int], **fields: object) -> list[Figure]:
    return [figure("binary_accuracy", value, slice={"pay": pay}, n=n, **fields) for pay, value, n in values]


@pytest.mark.parametrize(("limit", "verdict"), [(0.3, "fail"), (0.35, "pass")])
def test_a_gap_is_between_the_best_and_the_worst_slice(limit: float, verdict: str) -> None:
    """Both are named; a slice with few examples does not count, and is reported."""
    found = by_pay(("Cash", 0.95, 80), ("Card", 0.61, 50), ("Prcard", 0.7, 40), ("Unknown", 0.0, 3))
    decision = decide(gates({**GAP, "max_gap": limit}), NEW, found, None)
    assert verdicts(decision) == [verdict, "too_few_examples"]
    gap = decision.gates[0]
    assert (gap.condition, gap.n, gap.slice) == ("max_gap", 170, {})
    assert gap.value == pytest.approx(0.34)
    assert gap.margin == pytest.approx(limit - 0.34)
    assert gap.reason.endswith(": 0.95 on pay=Cash, 0.61 on pay=Card")


def test_a_gap_of_one_slice_is_not_measured() -> None:
    """There is nothing to compare it with."""
    decision = decide(gates(GAP), NEW, by_pay(("Cash", 0.9, 80), ("Card", 0.1, 2)), None)
    assert verdicts(decision) == ["not_measured", "too_few_examples"]
    assert "only pay=Cash has enough examples" in decision.reasons[0]


def test_a_gap_to_a_slice_without_a_figure_is_not_measured() -> None:
    """It is not left out in silence."""
    decision = decide(gates(GAP), NEW, by_pay(("Cash", 0.9, 80), ("Card", None, 90)), None)
    assert verdicts(decision) == ["not_measured"]


def test_the_interval_of_a_gap_is_made_of_those_of_its_ends() -> None:
    """By the distances to their bounds, as of independent figures: sqrt(0.03² + 0.04²) = 0.05."""
    found = [
        figure("binary_accuracy", 0.9, slice={"pay": "a"}, n=50, interval=(0.87, 0.93)),
        figure("binary_accuracy", 0.6, slice={"pay": "b"}, n=50, interval=(0.56, 0.64)),
    ]
    (gap,) = decide(gates({**GAP, "max_gap": 0.33}), NEW, found, None).gates
    assert gap.interval == pytest.approx((0.25, 0.35))
    assert gap.verdict == "inconclusive"
    assert decide(gates({**GAP, "max_gap": 0.36}), NEW, found, None).gates[0].verdict == "pass"
    (even,) = decide(gates(GAP), NEW, [found[0], found[0].model_copy(update={"slice": {"pay": "b"}})], None).gates
    assert (even.value, even.interval) == (0.0, pytest.approx((0.0, 0.0424264)))


def test_a_slice_whose_examples_cannot_give_the_figure_is_only_reported() -> None:
    """An AUC of one class; of the whole split it blocks, and so it does when it is so of every slice."""
    sliced = gates({"metric": "auc", "slice_by": ("pay",), "min": 0.5, "min_examples": 10})
    lost = figure("auc", None, slice={"pay": "Cash"}, n=90, why_not="every label is 0")
    decision = decide(sliced, NEW, [lost, figure("auc", 0.9, slice={"pay": "Card"}, n=90)], None)
    assert decision.outcome == "push"
    assert [(r.verdict, r.reason) for r in decision.gates if r.slice["pay"] == "Cash"] == [
        ("too_few_examples", "every label is 0")
    ]
    alone = decide(sliced, NEW, [lost], None)
    assert (alone.outcome, alone.gates[0].verdict) == ("block", "not_measured")
    assert "none of the 1 slices has the examples that it takes" in alone.reasons[0]
    whole = decide(gates({"metric": "auc", "min": 0.5}), NEW, [lost.model_copy(update={"slice": {}})], None)
    assert whole.reasons == ("gates.satisfy.0: auc not_measured: auc could not be measured: every label is 0",)


LATENCY = {"metric": "latency_p50_ms", "max_ratio_to_champion": 1.2}


def latency(value: float, digest: str = NEW, batch_size: int = 1, **fields: object) -> Figure:
    return figure("latency_p50_ms", value, digest, unit="ms", batch_size=batch_size, **fields)


def test_a_latency_is_that_of_its_batch_size() -> None:
    """The smallest that was measured where the gate names none."""
    found = [latency(9.0, batch_size=64), latency(3.0), latency(5.0, batch_size=8)]
    for named, value in ((None, 3.0), (8, 5.0), (64, 9.0)):
        (result,) = decide(gates({"metric": "latency_p50_ms", "batch_size": named, "max": 4}), NEW, found, None).gates
        assert (result.value, result.batch_size) == (value, named or 1)
        assert result.reason == f"{value:g} ms {'is' if value < 4 else 'is not'} at most 4 ms"
    missing = decide(gates({"metric": "latency_p50_ms", "batch_size": 2, "max": 4}), NEW, found, None)
    assert verdicts(missing) == ["not_measured"]


@pytest.mark.parametrize(
    ("ratio", "interval", "verdict"),
    [(1.1, (1.05, 1.15), "pass"), (1.3, (1.26, 1.34), "fail"), (1.1, (1.0, 1.25), "inconclusive")],
)
def test_a_ratio_that_was_measured_in_pairs_is_judged(
    ratio: float, interval: tuple[float, float], verdict: str
) -> None:
    """And not the quotient of two figures, which here says 1.5; limit, margin and interval are in the figure's unit."""
    found = [latency(3.0, ratio_to_champion=ratio, ratio_interval=interval, interval=(2.9, 3.1))]
    served = champion(latency(2.0, OLD), latency(9.0, OLD, batch_size=64))
    (result,) = decide(gates(LATENCY), NEW, found, served).gates
    assert result.verdict == verdict
    assert (result.limit, result.champion) == (pytest.approx(2.4), 2.0)
    assert result.margin == pytest.approx((1.2 - ratio) * 2.0)
    assert result.interval == pytest.approx((interval[0] * 2.0, interval[1] * 2.0))
    assert f"in pairs, {ratio:g} times the champion's; at most 1.2 times" in result.reason
    assert "3 ms is" not in result.reason


def test_the_champions_own_uncertainty_counts_where_it_was_measured_apart() -> None:
    """Of a latency 0.3 and 0.4 ms off at most, the difference is 0.5 ms off: sqrt(0.3² + 0.4²)."""
    served = champion(latency(2.0, OLD, interval=(1.6, 2.4)))
    found = [latency(2.6, interval=(2.3, 2.9))]
    for allowed, verdict in ((1.2, "pass"), (1.0, "inconclusive"), (0.2, "inconclusive"), (0.05, "fail")):
        (result,) = decide(gates({"metric": "latency_p50_ms", "max_drop": allowed}), NEW, found, served).gates
        assert (result.verdict, result.interval) == (verdict, pytest.approx((2.1, 3.1)))


def test_a_ratio_of_quality_has_the_interval_of_the_difference() -> None:
    """On the same examples; the champion's own interval counts with what the ratio leaves of it."""
    pairs = {"interval": (1.5, 2.7), "difference_to_champion": 0.1, "difference_interval": (0.07, 0.13)}
    served = champion(figure("mean_absolute_error", 2.0, OLD, interval=(1.6, 2.4)))
    gate = gates({"metric": "mean_absolute_error", "max_ratio_to_champion": 1.1})
    (result,) = decide(gate, NEW, [figure("mean_absolute_error", 2.1, **pairs)], served).gates
    assert (result.verdict, result.interval) == ("pass", pytest.approx((2.05, 2.15)))


def test_a_champion_whose_figure_is_missing_is_told_by_that_figure() -> None:
    """And not by a guess."""
    served = champion(latency(2.0, OLD).model_copy(update={"value": None, "why_not": "its process was killed"}))
    (result,) = decide(gates(LATENCY), NEW, [latency(3.0)], served).gates
    assert result.reason == "latency_p50_ms of the champion (version 3) was not measured: its process was killed"


def test_slices_of_what_was_not_measured_at_all_are_told_as_such() -> None:
    """The examples have the feature: it was the model that gave no answers."""
    gate = gates({"metric": "class_agreement", "against": "trained", "slice_by": ("pay",), "min": 0.99})
    whole = figure("class_agreement", None, against="trained", why_not="its process was killed")
    for found, words in (([whole], "could not be measured: its process was killed"), ([], "was not measured")):
        decision = decide(gate, NEW, found, None)
        assert verdicts(decision) == ["not_measured"]
        assert words in decision.reasons[0]


def test_a_comparison_in_pairs_has_the_interval_of_the_difference() -> None:
    """Two wide intervals of the same examples can leave a narrow difference."""
    gate = gates(optimize={"metric": "auc", "at_least_champion_minus": 0.01})
    wide = {"interval": (0.8, 0.98), "difference_to_champion": -0.002, "difference_interval": (-0.005, 0.001)}
    served = champion(figure("auc", 0.902, OLD, interval=(0.8, 0.98)))
    (result,) = decide(gate, NEW, [figure("auc", 0.9, **wide)], served).gates
    assert result.verdict == "pass"
    assert result.interval == pytest.approx((0.897, 0.903))
    unsure = {**wide, "difference_interval": (-0.012, 0.001)}
    assert verdicts(decide(gate, NEW, [figure("auc", 0.9, **unsure)], served)) == ["inconclusive"]
    lenient = gates(optimize={"metric": "auc", "at_least_champion_minus": 0.01, "on_inconclusive": "pass"})
    assert decide(lenient, NEW, [figure("auc", 0.9, **unsure)], served).outcome == "push"


def test_parity_is_with_what_the_gate_names() -> None:
    """Agreement should be large, a difference small."""
    found = [
        figure("max_abs_difference", 0.5, against="trained"),
        figure("max_abs_difference", 0.01, against="serving_examples"),
        figure("class_agreement", 0.9, against="trained"),
    ]
    gate = gates(
        {"metric": "max_abs_difference", "against": "serving_examples", "max": 0.1},
        {"metric": "class_agreement", "against": "trained", "min": 0.99},
        {"metric": "max_abs_difference", "against": "saved_model", "max": 0.1},
    )
    decision = decide(gate, NEW, found, None)
    assert {r.gate: (r.verdict, r.against) for r in decision.gates} == {
        "gates.satisfy.0": ("pass", "serving_examples"),
        "gates.satisfy.1": ("fail", "trained"),
        "gates.satisfy.2": ("not_measured", None),
    }
    assert "class_agreement[against trained] fail" in decision.reasons[0]


def test_a_champion_that_cannot_be_evaluated_says_why() -> None:
    """It blocks, unless a person accepts that; what can be compared is compared all the same."""
    gate = gates({"metric": "auc", "max_drop": 0.1}, {"metric": "size_mb", "max_drop": 1})
    found = [figure("auc", 0.9), figure("size_mb", 5.0)]
    lost = Champion(OLD, 3, [figure("size_mb", 1.0, OLD)], "it does not load")
    blocked = decide(gate, NEW, found, lost)
    assert "gates.satisfy.0: auc not_measured: auc of the champion (version 3) was not measured: it does not load" in (
        blocked.reasons
    )
    accepted = decide(gate, NEW, found, Champion(OLD, 3, lost.figures, lost.why_not, "old format"))
    assert {r.gate: (r.verdict, r.reason) for r in accepted.gates} == {
        "gates.satisfy.0": ("no_champion", "accepted without champion: old format"),
        "gates.satisfy.1": ("fail", "5 is not at most 2 (champion 1)"),
    }
    assert accepted.notes == ("not compared with version 3 (it does not load); accepted without champion: old format",)


def test_what_is_admitted_waits_where_a_person_has_to_approve() -> None:
    """A block does not, and the champion itself needs no approval."""
    gate = GatesConfig.model_validate(
        {"satisfy": [{"metric": "auc", "min": 0.5}], "approval": "required"}, strict=False
    )
    waiting = decide(gate, NEW, [figure("auc", 0.9)], None)
    assert (waiting.outcome, waiting.reasons[0]) == ("pending", "a person has to approve it")
    assert decide(gate, NEW, [figure("auc", 0.1)], None).outcome == "block"
    assert decide(gate, NEW, [figure("auc", 0.9)], Champion(NEW, 3)).outcome == "already_served"


def test_why_a_candidate_is_admitted() -> None:
    """By how many gates, and what it was compared with."""
    gate = gates({"metric": "auc", "min": 0.5}, {"metric": "size_mb", "max": 9})
    found = [figure("auc", 0.9), figure("size_mb", 1.0)]
    assert decide(gate, NEW, found, None).reasons == ("all 2 gates admit it; nothing is served yet to compare it with",)
    assert decide(gates({"metric": "auc", "min": 0.5}), NEW, found, champion(figure("auc", 0.8, OLD))).reasons == (
        "the gate admits it, compared with version 3, which is served",
    )


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
