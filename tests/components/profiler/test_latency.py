"""Calls in turns: fair order, warm-up not counted, an end in sight. Planted delays are judged by a clock that calls advance."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from components.profiler import latency
from components.profiler.latency import Plan, time_in_turns
from components.profiler.statistics import paired_p50_ratio


class Clock:
    """Stands for `time`: it goes on by what a call takes, which varies, and now and then by the time slice of another process.

    Attributes:
        now: in seconds.
        spread: standard deviation of the logarithm of what equal calls take.
        halts: share of the calls in which the processor is taken away for 4 ms.
    """

    def __init__(self) -> None:
        self.now, self.spread, self.halts = 0.0, 0.0, 0.0
        self._random = np.random.default_rng(0)

    def perf_counter(self) -> float:
        return self.now

    def takes(self, seconds: float):
        """A call that takes about so long."""

        def call() -> None:
            self.now += seconds * float(np.exp(self._random.normal(0, self.spread)))
            self.now += 0.004 * (self._random.random() < self.halts)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(latency, "time", made)
    return made


def test_every_turn_has_a_block_of_each_model_on_the_same_requests() -> None:
    """In an order that changes; requests are taken one after the other, from the first again where they end."""
    calls: list[tuple[str, int]] = []
    models = {
        name: [lambda name=name, index=index: calls.append((name, index)) for index in range(5)] for name in ("a", "b")
    }
    plan = Plan(budget_s=60, precision=-1, calls=3, least_blocks=4, most_blocks=20, warm_up_calls=2)
    found = time_in_turns(models, plan)
    assert {name: blocks.shape for name, blocks in found.items()} == {"a": (20, 3), "b": (20, 3)}
    counted = calls[4:]  # two calls of each warm up
    turns = [counted[start : start + 6] for start in range(0, len(counted), 6)]
    for number, turn in enumerate(turns):
        wanted = [(number * 3 + index) % 5 for index in range(3)]
        assert [index for _, index in turn] == wanted * 2
        assert sorted({turn[0][0], turn[3][0]}) == ["a", "b"]
    assert {turn[0][0] for turn in turns} == {"a", "b"}


def test_seconds_are_those_of_the_clock() -> None:
    """Of the machine's, that no call can outrun."""
    found = time_in_turns({"one": [lambda: time.sleep(0.01)]}, Plan(budget_s=0.1, most_blocks=5))
    assert found["one"].min() >= 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_delay_is_found(clock: Clock, seed: int) -> None:
    """One model that takes 30 % longer than another, and one that does not, on a machine that is busy with others."""
    clock.spread, clock.halts = 0.2, 0.1
    models = {name: [clock.takes(seconds)] for name, seconds in {"slow": 0.0013, "fast": 0.001, "same": 0.001}.items()}
    found = time_in_turns(models, Plan(budget_s=1.5, precision=0.02, seed=seed))
    slower = paired_p50_ratio(found["slow"], found["fast"])
    alike = paired_p50_ratio(found["same"], found["fast"])
    assert 1.15 < slower.interval[0] <= slower.interval[1] < 1.45
    assert 0.85 < alike.interval[0] <= alike.interval[1] < 1.15


def test_it_stops_when_the_figures_are_narrow_enough(clock: Clock) -> None:
    """Long before the budget is spent."""
    clock.spread = 0.2
    plan = Plan(budget_s=60, precision=0.9, least_blocks=10, most_blocks=100_000)
    assert 10 <= len(time_in_turns({"one": [clock.takes(0.0005)]}, plan)["one"]) < 200


def test_it_stops_when_the_budget_is_spent(clock: Clock) -> None:
    """A slow model has smaller blocks, and at least one of them; the round that is under way is finished."""
    plan = Plan(budget_s=0.2, longest_s=0.2, precision=0, least_blocks=40)
    found = time_in_turns({"slow": [clock.takes(0.02)], "slower": [clock.takes(0.05)]}, plan)
    assert 0.2 < clock.now <= 0.2 + 0.02 + 0.05
    assert found["slow"].shape == found["slower"].shape
    assert found["slow"].shape[1] == 1
    assert len(found["slow"]) >= 1


def test_a_comparison_in_noise_goes_on_until_it_is_roughly_known(clock: Clock) -> None:
    """Beyond the budget, and no longer than it may; one model alone stops with the budget."""
    clock.spread = 0.8
    plan = Plan(budget_s=0.1, longest_s=20, precision=0, roughly=0.15)
    models = {"one": [clock.takes(0.0004)], "other": [clock.takes(0.0004)]}
    found = time_in_turns(models, plan)
    ratio = paired_p50_ratio(found["one"], found["other"])
    assert ratio.half_width < 0.25
    assert 0.1 < clock.now < 20
    begun = clock.now
    time_in_turns({"one": models["one"]}, plan)
    assert 0.1 < clock.now - begun < 0.2


def test_the_collector_of_garbage_stands_still_meanwhile() -> None:
    """And is as it was afterwards."""
    seen: list[bool] = []
    time_in_turns({"one": [lambda: seen.append(gc.isenabled())]}, Plan(budget_s=0.05, warm_up_calls=1))
    assert gc.isenabled()
    assert not any(seen[1:])


def test_equal_seeds_give_equal_orders() -> None:
    """So that a measurement can be repeated."""

    def order(seed: int) -> list[str]:
        calls: list[str] = []
        models = {name: [lambda name=name: calls.append(name)] for name in "abc"}
        plan = Plan(budget_s=60, precision=-1, calls=1, least_blocks=5, most_blocks=30, warm_up_calls=1, seed=seed)
        time_in_turns(models, plan)
        return calls

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert np.unique(order(1)).tolist() == ["a", "b", "c"]
