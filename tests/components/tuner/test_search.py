"""The search: trials in processes of their own, what becomes of bad ones, and what a kill leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.trainer.strategy import Machine
from components.tuner.reasons import without_winner
from components.tuner.search import described, places_for
from schemas.config import DimensionConfig, TuneConfig
from schemas.errors import NoTrialWonError
from schemas.tuning import Search, Trial, Violation, ranked
from tests.components.tuner.conftest import SECTIONS, CutOff
from tests.components.tuner.scripted import searched


def test_every_set_comes_to_its_end_as_it_should(cut_off: CutOff) -> None:
    """Fine ones are trained, one that raises and one whose process dies fail, what is too large is never trained."""
    found = {(one.values["units"], one.values["behaviour"]): one for one in cut_off.found.trials}
    assert {found[units, "raises"].state for units in (4, 5000)} == {"failed"}
    assert "no such network" in found[4, "raises"].reason
    dead = found[4, "dies"]
    assert (dead.state, dead.epochs, dead.attempts) == ("failed", 0, 2)
    assert (
        dead.reason
        == "its process was killed by SIGKILL 2 times, the last time in epoch 1; this is how one ends that is out of memory"
    )
    for large in (found[5000, "fine"], found[5000, "dies"]):
        assert (large.state, large.epochs) == ("infeasible", 0)
        assert large.violations[0].metric == "parameters"
        assert large.figures["parameters"] > 5000
    trained = found[4, "fine"]
    assert (trained.state, trained.objective is not None) == ("complete", True)


def test_the_winner_is_complete_and_was_measured(cut_off: CutOff) -> None:
    """Of its payload, too, since a gate limits the size of it; nobody with fewer epochs wins."""
    winner = cut_off.found.winner
    assert winner is not None
    assert winner.state == "complete"
    assert 0 < winner.figures["size_mb"] < 5
    assert cut_off.found.leaderboard[0] == winner


def test_what_had_ended_before_the_kill_is_kept(cut_off: CutOff) -> None:
    """And counted as such; no set is trained twice."""
    assert cut_off.before
    assert cut_off.found.resumed == len(cut_off.before)
    assert set(cut_off.before) <= {one.number for one in cut_off.found.trials}
    values = [str(one.values) for one in cut_off.found.trials]
    assert len(values) == len(set(values))


def test_no_worker_outlives_the_search(cut_off: CutOff) -> None:
    """The kernel ends them with the process that started them."""
    assert cut_off.orphans == []


def test_each_trial_is_named_by_its_configuration(cut_off: CutOff) -> None:
    """By a digest that is its own."""
    assert len({one.digest for one in cut_off.found.trials}) == len(cut_off.found.trials)


# --- without processes ------------------------------------------------------------------------------------------------


def trial(number: int, state: str, objective: float | None = None, *violations: Violation) -> Trial:
    return Trial.model_validate(
        {
            "number": number,
            "values": {"rate": number},
            "objective": objective,
            "state": state,
            "digest": "d",
            "reason": "x",
        }
    ).model_copy(update={"violations": violations})


def test_a_trial_that_cannot_ship_cannot_win() -> None:
    """Complete ones by their objective, then those that were ended, then those that a gate forbids, whatever they score."""
    trials = [
        trial(0, "failed"),
        trial(1, "infeasible", 0.99),
        trial(2, "pruned", 0.98),
        trial(3, "complete", 0.8),
        trial(4, "complete", 0.9),
    ]
    assert [one.number for one in ranked(trials, "max")] == [4, 3, 2, 1, 0]
    assert [one.number for one in ranked(trials, "min")] == [3, 4, 2, 1, 0]


def test_all_violating_says_which_and_by_how_much() -> None:
    """Of the trial that comes nearest, in shares of the limits, so that milliseconds and megabytes can be compared."""

    def over(metric: str, value: float, limit: float, unit: str) -> Violation:
        return Violation(gate="gates.satisfy.0", metric=metric, value=value, limit=limit, upper=True, unit=unit)

    trials = [
        trial(0, "infeasible", 0.9, over("size_mb", 8, 4, "MB")),
        trial(1, "infeasible", 0.8, over("latency_p99_ms", 25, 20, "ms")),
        trial(2, "failed"),
    ]
    error = without_winner(trials)
    assert "all 2 trials that were judged violate a gate; the nearest, trial 1 with rate 1, has latency" in str(error)
    assert "5 ms over; failed: trial 2: x." in str(error)
    assert "Correct build_model" in str(error)
    assert "latency_p99_ms 25 ms, at most 20 ms allowed by gates.satisfy.0: 5 ms over" in str(error)


def test_none_trained_says_why() -> None:
    """With the reasons of the trials, each once."""
    error = without_winner([trial(0, "failed"), trial(1, "failed")])
    assert "none of 2 trials came to its end; failed: trials 0, 1: x" in str(error)


@pytest.mark.parametrize(
    ("parallel", "machine", "visible", "count", "threads", "devices"),
    [
        ("auto", Machine(cpus=4), None, 4, 1, {"-1"}),
        (2, Machine(cpus=8), None, 2, 4, {"-1"}),
        (16, Machine(cpus=2), None, 6, 1, {"-1"}),
        ("auto", Machine(cpus=8, gpus=2), None, 2, 0, {"0", "1"}),
        (4, Machine(cpus=8, gpus=2), "5,7", 4, 0, {"5", "7"}),
    ],
)
def test_each_trial_has_its_place(
    parallel: int | str, machine: Machine, visible: str | None, count: int, threads: int, devices: set[str]
) -> None:
    """A GPU in turns, or a share of the processors; never more places than trials."""
    space = {"a": DimensionConfig(choices=(1, 2))}
    tune = TuneConfig.model_validate({"trials": 6, "objective": "auc", "space": space, "parallel": parallel})
    places = places_for(tune, machine, visible)
    assert (len(places.environments), places.threads) == (count, threads)
    assert {one["CUDA_VISIBLE_DEVICES"] for one in places.environments} == devices


def test_a_search_is_told_of_before_it_begins() -> None:
    """How many trials, over what, at once, and by which gates they are held."""
    lines = described(SECTIONS, Machine(cpus=2))
    assert lines[0] == (
        "tuning: 6 trials for binary_accuracy (max) over units, behaviour (6 sets); 2 at once, one thread each"
    )
    assert lines[1] == "  a trial cannot win that does not meet gates.satisfy.0, gates.satisfy.1"


def test_limits_on_time_are_told_before_a_search_begins() -> None:
    """Those that are set."""
    tune = SECTIONS.tune.model_copy(update={"trial_timeout": "10m", "timeout": "2h"})
    training = SECTIONS.training.model_copy(update={"tune": tune})
    lines = described(replace(SECTIONS, training=training), Machine(cpus=2))
    assert lines[1] == "  a trial has 10m, the whole search has 2h"


def test_the_summary_counts_states() -> None:
    """And names the winner."""
    found = Search(objective="auc", better="max", best=1, trials=(trial(0, "pruned", 0.5), trial(1, "complete", 0.75)))
    assert found.summary == "2 trials: 1 complete, 1 pruned; best auc 0.75 (trial 1)"


# --- with a script in the place of the workers ------------------------------------------------------------------------

RATES = {"trials": 2, "objective": "binary_accuracy", "space": {"rate": {"choices": [0.01, 10.0]}}}


@pytest.mark.parametrize("gate", [{"metric": "parameters", "max": 9}, {"metric": "binary_crossentropy", "max": 0.6}])
def test_a_model_that_diverged_cannot_win(tmp_path: Path, gate: dict[str, Any]) -> None:
    """However good the objective: that no output is above a half is often right. No figure of weights before them counts."""

    def epochs(values: Mapping[str, Any]) -> list[dict[str, float]]:
        good = {"loss": 0.4, "binary_accuracy": 0.8, "binary_crossentropy": 0.4}
        diverged = {"loss": math.nan, "binary_accuracy": 0.8, "binary_crossentropy": math.nan}
        return [good, good, diverged if values["rate"] > 1 else {**good, "binary_accuracy": 0.7}]

    found = searched(tmp_path, RATES, [gate], epochs)
    assert found.winner is not None
    assert found.winner.values == {"rate": 0.01}
    diverged = next(one for one in found.trials if one.values["rate"] > 1)
    assert (diverged.state, diverged.reason) == ("failed", "loss is nan after 3 epochs")
    assert "binary_crossentropy" not in diverged.figures


def test_a_limit_is_not_met_by_what_is_no_number(tmp_path: Path) -> None:
    """It fails at its end, for a metric may well be undefined after the first epochs; one that no gate limits does no harm."""

    def epochs(values: Mapping[str, Any]) -> list[dict[str, float]]:
        last = (0.7, 0.9) if values["rate"] < 1 else (0.8, math.nan)
        figures = [(0.7, math.nan), (0.7, 0.9), last]
        return [{"loss": 0.5, "other": math.nan, "binary_accuracy": one, "precision": two} for one, two in figures]

    found = searched(tmp_path, RATES, [{"metric": "precision", "min": 0.5}], epochs)
    assert found.winner is not None
    assert found.winner.values == {"rate": 0.01}
    other = next(one for one in found.trials if one.values["rate"] > 1)
    assert (other.state, other.reason) == ("failed", "precision is nan after 3 epochs")


LOOSE = [{"metric": "parameters", "max": 9}]
SLOW = {"trials": 3, "objective": "auc", "space": {"units": {"choices": [32, 1024, 2048]}}}


def _hanging(values: Mapping[str, Any]) -> list[dict[str, float] | None]:
    """The large ones hang in their second epoch."""
    figures = {"loss": 0.5, "auc": values["units"] / 5000}
    return [figures, figures, figures] if values["units"] == 32 else [figures, None]


def test_a_trial_has_its_time(tmp_path: Path) -> None:
    """One that takes longer is killed, cannot win however good it was, and its worker is replaced."""
    found = searched(tmp_path, {**SLOW, "trial_timeout": "10s"}, LOOSE, _hanging, {"units": 2048})
    assert found.winner is not None
    assert found.winner.values == {"units": 32}
    late = found.leaderboard[1]
    assert (late.state, late.seconds, late.epochs) == ("timed_out", 10, 1)
    assert late.reason == "it had trained 1 epoch when the 10s of training.tune.trial_timeout were over"
    assert found.summary.startswith("3 trials: 1 complete, 2 timed out; best auc")


def test_a_search_has_its_time(tmp_path: Path) -> None:
    """What came to its end in it is judged; what trains is killed, and what has not begun does not begin."""
    found = searched(tmp_path, {**SLOW, "trials": 20, "timeout": "30s"}, LOOSE, _hanging, {"units": 32})
    assert [(one.state, one.values["units"] == 32) for one in found.trials] == [
        ("complete", True),
        ("timed_out", False),
    ]
    assert found.trials[1].reason == "the 30s of training.tune.timeout were over when it had trained 1 epoch"
    assert found.seconds == 30
    assert "the 30s of training.tune.timeout ended the search after 2 of 20 trials" in found.notes


def test_time_that_a_search_had_before_it_was_cut_off_counts(tmp_path: Path) -> None:
    """A search that is gone on with has what is left; here that is nothing, and the winner is known already."""
    tune = {**SLOW, "trials": 20, "timeout": "30s"}
    first = searched(tmp_path, tune, LOOSE, _hanging, {"units": 32})
    again = searched(tmp_path, tune, LOOSE, _hanging)
    assert (again.resumed, again.seconds, again.trials) == (2, 0, first.trials)


def test_where_none_came_to_its_end_in_time_more_is_asked_for(tmp_path: Path) -> None:
    """With how many, and by which limit."""
    with pytest.raises(NoTrialWonError) as caught:
        searched(tmp_path, {**SLOW, "trial_timeout": "10s"}, LOOSE, lambda values: [None])
    assert "none of 3 trials came to its end; timed out: trials 0, " in str(caught.value)
    assert "Allow more time: training.tune.trial_timeout" in str(caught.value)


UNITS = {"trials": 4, "objective": "auc", "space": {"units": {"choices": [4096, 2048, 1024, 32]}}}


def _by_units(values: Mapping[str, Any]) -> list[dict[str, float]]:
    return [{"loss": 0.5, "auc": values["units"] / 5000}] * 3


def _latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    def figures_of(_: object, __: object, values: Mapping[str, Any], ___: object) -> dict[str, float]:
        return {"latency_p99_ms": values["units"] / 32}

    monkeypatch.setattr("components.tuner.search.figures_of", figures_of)


def test_what_only_those_have_ended_that_cannot_ship_is_trained_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small one is behind the large ones wherever they are compared; that they are too slow is known at the end."""
    _latencies(monkeypatch)
    first = {**UNITS, "space": {"units": {"choices": [4096, 32]}}, "trials": 2}
    found = searched(tmp_path, first, [{"metric": "latency_p99_ms", "max": 2}], _by_units, {"units": 4096})
    winner = found.winner
    assert winner is not None
    assert (winner.values, winner.state, winner.epochs, winner.attempts) == ({"units": 32}, "complete", 3, 2)
    assert winner.figures["latency_p99_ms"] == 1
    assert found.summary.startswith("2 trials: 1 complete, 1 infeasible")


def test_a_second_chance_ends_with_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose limit is named: a trial has none here."""
    _latencies(monkeypatch)
    chances: list[int] = []

    def epochs(values: Mapping[str, Any]) -> list[dict[str, float] | None]:
        chances.append(values["units"])
        return [*_by_units(values)[:1], None] if chances.count(32) == 2 else [*_by_units(values)]

    tune = {**UNITS, "space": {"units": {"choices": [4096, 32]}}, "trials": 2, "timeout": "30s"}
    with pytest.raises(NoTrialWonError) as caught:
        searched(tmp_path, tune, [{"metric": "latency_p99_ms", "max": 2}], epochs, {"units": 4096})
    assert "timed out: trial 1: the 30s of training.tune.timeout were over when it had trained 1 epoch" in str(
        caught.value
    )


def test_where_nothing_can_ship_all_are_held_against_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were ended early, too: the nearest is among them."""
    _latencies(monkeypatch)
    with pytest.raises(NoTrialWonError) as caught:
        searched(tmp_path, UNITS, [{"metric": "latency_p99_ms", "max": 0.5}], _by_units, {"units": 4096})
    assert "all 4 trials that were judged violate a gate" in str(caught.value)
    assert "latency_p99_ms 1 ms, at most 0.5 ms" in str(caught.value)


def test_second_chances_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a whole training; how many had none is told."""
    _latencies(monkeypatch)
    few = {**UNITS, "trials": 5, "space": {"units": {"min": 1, "max": 4096}}}
    gates = [{"metric": "latency_p99_ms", "max": 127}, {"metric": "precision", "min": 0.5}]

    def epochs(values: Mapping[str, Any]) -> list[dict[str, float]]:
        return [{**one, "precision": 0.9 if values["units"] == 4096 else 0.4} for one in _by_units(values)]

    with pytest.raises(NoTrialWonError) as caught:
        searched(tmp_path, few, gates, epochs, {"units": 4096})
    assert "all 4 trials that were judged violate a gate" in str(caught.value)
    assert "; ended early, and not held against all limits: 1 more" in str(caught.value)
