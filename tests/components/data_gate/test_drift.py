"""Verdicts on distances: what is judged, what cannot be, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data_gate.distance import Numbers, Texts
from components.data_gate.drift import Side, compare, comparisons_of, without_baseline
from components.data_gate.judge import decide, summary_of
from components.data_gate.limits import Limit, faults_of, limits_of
from schemas.config import ValidateConfig
from schemas.decision import Baseline, Comparison

TYPES = {"fare": "FLOAT", "hour": "INT", "pay": "BYTES"}
SERVED = Baseline(found=True, version=3, statistics=7, reason="version 3 was trained on 500 rows")


def texts(**counts: float) -> Texts:
    return Texts(int(sum(counts.values())), dict(counts))


def flat(low: float, high: float, count: int = 1000) -> Numbers:
    """As many values everywhere between two ends."""
    return Numbers(count, np.linspace(low, high, 201), np.linspace(0, 1, 201))


def verdict(now: Any, then: Any, limit: float = 0.1, measure: Any = "jensen_shannon", least: int = 100) -> Comparison:
    against = Side("version 3", {} if then == "absent" else {"x": then})
    (found,) = compare("drift", [Limit("x", measure, limit)], "train", {"x": now}, against, "warn", least)
    return found


def test_a_limit_that_is_met() -> None:
    """Feature, measure, value, limit, baseline and both counts stand in the record."""
    found = verdict(texts(a=50, b=50), texts(a=500, b=500))
    assert (found.verdict, found.value, found.limit) == ("pass", 0.0, 0.1)
    assert (found.feature, found.measure, found.against) == ("x", "jensen_shannon", "version 3")
    assert (found.n, found.against_n) == (100, 1000)
    assert found.reason == "jensen_shannon from version 3 is 0, at most 0.1"


def test_a_limit_that_is_exceeded() -> None:
    """A new category takes a fifth: its share is the largest difference."""
    found = verdict(texts(a=80, new=20), texts(a=1000), measure="l_infinity")
    assert (found.verdict, found.value, found.deviates) == ("exceeded", pytest.approx(0.2), True)
    assert found.reason == "l_infinity from version 3 is 0.2, above 0.1"


def test_at_the_limit_it_is_met() -> None:
    """As with TFDV: only above it."""
    assert verdict(texts(a=90, new=10), texts(a=100), limit=0.1, measure="l_infinity").verdict == "pass"


@pytest.mark.parametrize(
    ("now", "then", "expected", "words"),
    [
        (None, flat(0, 1), "not_measured", "there are no values in train; version 3 has 1,000"),
        (flat(0, 1), None, "not_measured", "there are 1,000 values in train, and none in version 3"),
        (None, None, "pass", "there are no values, as in version 3"),
        (flat(0, 1), "absent", "no_baseline", "version 3 has no such column"),
        (
            flat(0, 1),
            texts(a=1000),
            "not_measured",
            "its type has changed: a number (FLOAT) in train, text (BYTES) in version 3, which cannot be compared",
        ),
        (flat(0, 1, 99), flat(0, 1), "too_few_examples", "99 values against 1,000: under 100 are not judged"),
        (flat(0, 1), flat(0, 1, 5), "too_few_examples", "1,000 values against 5: under 100 are not judged"),
    ],
)
def test_what_cannot_be_judged(now: Any, then: Any, expected: str, words: str) -> None:
    """Is never a pass, unless there was nothing on either side; values that are gone count as drift."""
    found = verdict(now, then)
    assert (found.verdict, found.deviates) == (expected, expected == "not_measured")
    assert words in found.reason


@pytest.mark.parametrize(("severity", "outcome"), [("block", "block"), ("warn", "proceed"), ("retrain", "proceed")])
def test_a_type_that_has_changed_is_drift(severity: Any, outcome: str) -> None:
    """By the statistics of both data sets: both types are named, and what the configuration wants done about drift is."""
    now, then = statistics_pb2.DatasetFeatureStatisticsList(), statistics_pb2.DatasetFeatureStatisticsList()
    of_numbers = now.datasets.add(num_examples=200).features.add(type=statistics_pb2.FeatureNameStatistics.INT)
    of_numbers.num_stats.histograms.add(type=1).buckets.add(low_value=1, high_value=9, sample_count=200)
    of_texts = then.datasets.add(num_examples=200).features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    of_texts.string_stats.common_stats.num_non_missing = 200
    of_texts.string_stats.rank_histogram.buckets.add(label="card", sample_count=200)
    for feature in (of_numbers, of_texts):
        feature.path.step.append("pay")
    validate = ValidateConfig(drift={"pay": {"jensen_shannon": 0.1}}, on_drift=severity)
    found = comparisons_of(validate, {"pay": "INT"}, {"train": now}, SERVED, then)
    (one,) = found
    assert "a number (INT) in train, text (BYTES) in version 3" in one.reason
    decision = decide([], {}, validate, found, SERVED)
    assert (decision.outcome, decision.retrain) == (outcome, severity == "retrain")
    assert decision.reasons == ((f"pay (train): {one.reason} [drift]",) if severity == "block" else ())
    assert summary_of(decision) == f"{outcome}, drift in pay"


def test_a_measure_that_is_not_defined() -> None:
    """It cannot be asked for in a configuration that was checked; should it come here, it is no pass."""
    assert verdict(flat(0, 1), flat(0, 1), measure="l_infinity").verdict == "not_measured"


def test_without_a_baseline_nothing_passes() -> None:
    """Each limit says so, with the reason, and the run goes on."""
    first = Baseline(found=False, reason="nothing is served yet")
    found = list(without_baseline([Limit("x", "jensen_shannon", 0.1)], first, "block"))
    assert [(one.verdict, one.value, one.reason) for one in found] == [("no_baseline", None, "nothing is served yet")]
    decision = decide([], {}, ValidateConfig(drift={"x": {}}, on_drift="block"), found, first)
    assert (decision.outcome, decision.reasons) == ("proceed", ())
    assert summary_of(decision) == "proceed, no baseline"


# --- what is made of them ---------------------------------------------------------------------------------------------


def comparison(verdict: Any, severity: Any = "warn", kind: Any = "drift", feature: str = "fare") -> Comparison:
    fields = {"measure": "jensen_shannon", "value": 0.2, "limit": 0.1, "against": "version 3", "reason": "it is far"}
    return Comparison(kind=kind, feature=feature, verdict=verdict, severity=severity, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "severity", "outcome", "retrain"),
    [
        ("exceeded", "warn", "proceed", False),
        ("exceeded", "retrain", "proceed", True),
        ("exceeded", "block", "block", False),
        ("not_measured", "block", "block", False),
        ("not_measured", "retrain", "proceed", True),
        ("too_few_examples", "block", "proceed", False),
        ("no_baseline", "block", "proceed", False),
        ("pass", "retrain", "proceed", False),
    ],
)
def test_severity(verdict: Any, severity: Any, outcome: str, retrain: bool) -> None:
    """What deviates does what the configuration wants: block, warn, or ask for a new model and go on."""
    decision = decide([], {"train": 9}, ValidateConfig(), [comparison(verdict, severity)], SERVED)
    assert (decision.outcome, decision.retrain) == (outcome, retrain)
    assert decision.reasons == (("fare (train): it is far [drift]",) if outcome == "block" else ())


@pytest.mark.parametrize(
    ("version", "wanted", "outcome"), [(3, "block", "block"), (3, "warn", "proceed"), (None, "block", "proceed")]
)
def test_a_baseline_that_is_gone(version: int | None, wanted: Any, outcome: str) -> None:
    """Blocks where the configuration says so, and never on a first run."""
    gone = Baseline(found=False, version=version, reason="the statistics are gone")
    decision = decide([], {}, ValidateConfig(on_no_baseline=wanted), [], gone)
    assert decision.outcome == outcome
    assert decision.reasons == (("no baseline: the statistics are gone",) if outcome == "block" else ())


def test_what_deviates_comes_first() -> None:
    """Then what could not be judged, then what is nearest to its limit; the summary names a few."""
    found = [comparison("pass", feature="a"), comparison("no_baseline", feature="b")]
    found += [comparison("exceeded", feature=name) for name in "zyxw"]
    decision = decide([], {}, ValidateConfig(), found, SERVED)
    assert [one.feature for one in decision.comparisons] == ["w", "x", "y", "z", "b", "a"]
    assert summary_of(decision) == "proceed, drift in w, x, y and 1 more"
    assert summary_of(decide([], {}, ValidateConfig(), [], SERVED)) == "proceed, no drift from version 3"


@given(st.lists(st.sampled_from(["exceeded", "pass", "not_measured", "too_few_examples"])), st.integers(0, 9))
def test_one_deviation_less_never_turns_a_go_into_a_block(verdicts: list[str], left_out: int) -> None:
    """The gate is monotone."""
    found = [comparison(verdict, "block") for verdict in verdicts]
    fewer = found[:left_out] + found[left_out + 1 :]
    if decide([], {}, ValidateConfig(), found, SERVED).outcome == "proceed":
        assert decide([], {}, ValidateConfig(), fewer, SERVED).outcome == "proceed"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_default_is_for_what_is_not_named() -> None:
    """With the measures that are defined for the type; a feature that is named has its own, or none."""
    limits: Any = {"*": {"jensen_shannon": 0.1, "l_infinity": 0.2}, "hour": {}, "pay": {"l_infinity": 0.3}}
    assert limits_of(limits, TYPES) == [Limit("fare", "jensen_shannon", 0.1), Limit("pay", "l_infinity", 0.3)]
    assert limits_of({}, TYPES) == []


def test_faults_of_limits() -> None:
    """A wrong name with its close match, a measure that says nothing of numbers; for drift and skew alike."""
    wrong: Any = {"faer": {}, "hour": {"l_infinity": 0.1}, "*": {"l_infinity": 0.1}, "pay": {"l_infinity": 0.1}}
    found = list(faults_of(ValidateConfig(drift=wrong, skew={"ours": {}}), TYPES))
    assert [(one.path, one.close_match) for one in found] == [
        ("data.validate.drift.faer", "fare"),
        ("data.validate.drift.hour.l_infinity", None),
        ("data.validate.skew.ours", "hour"),
    ]
    assert "is a measure of texts, and 'hour' is of type INT" in str(found[1])
