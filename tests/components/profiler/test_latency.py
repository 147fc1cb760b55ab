"""Calls in turns: fair order, warm-up not counted, an end in sight. Planted delays are judged, never absolute times."""

from __future__ import annotations

import gc
import time

import numpy as np

from components.profiler.latency import Plan, time_in_turns
from components.profiler.statistics import paired_p50_ratio


def spin(seconds: float):
    """A call that keeps the processor busy for a time."""

    def call() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return call


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


def test_a_planted_delay_is_found() -> None:
    """One model that takes 30 % longer than another, and one that does not."""
    models = {"slow": [spin(0.0013)], "fast": [spin(0.001)], "same": [spin(0.001)]}
    found = time_in_turns(models, Plan(budget_s=1.5, precision=0.02))
    slower = paired_p50_ratio(found["slow"], found["fast"])
    alike = paired_p50_ratio(found["same"], found["fast"])
    assert 1.15 < slower.interval[0] <= slower.interval[1] < 1.45
    assert 0.85 < alike.interval[0] <= alike.interval[1] < 1.15


def test_it_stops_when_the_figures_are_narrow_enough() -> None:
    """Long before the budget is spent."""
    plan = Plan(budget_s=60, precision=0.9, least_blocks=10, most_blocks=100_000)
    assert len(time_in_turns({"one": [spin(0.0005)]}, plan)["one"]) < 200


def test_it_stops_when_the_budget_is_spent() -> None:
    """A slow model has smaller blocks, and at least one of them."""
    plan = Plan(budget_s=0.2, longest_s=0.2, precision=0, least_blocks=40)
    begun = time.perf_counter()
    found = time_in_turns({"slow": [spin(0.02)], "slower": [spin(0.05)]}, plan)
    assert time.perf_counter() - begun < 20
    assert found["slow"].shape == found["slower"].shape
    assert found["slow"].shape[1] == 1
    assert len(found["slow"]) >= 1


def test_a_comparison_in_noise_goes_on_until_it_is_roughly_known() -> None:
    """Beyond the budget, and no longer than it may; one model alone stops with the budget."""
    random = np.random.default_rng(0)

    def noisy() -> None:
        spin(0.0004 * float(np.exp(random.normal(0, 0.8))))()

    models = {"one": [noisy], "other": [noisy]}
    plan = Plan(budget_s=0.1, longest_s=20, precision=0, roughly=0.15)
    found = time_in_turns(models, plan)
    ratio = paired_p50_ratio(found["one"], found["other"])
    assert ratio.half_width < 0.25
    assert sum(blocks.sum() for blocks in found.values()) > 0.1
    begun = time.perf_counter()
    time_in_turns({"one": [noisy]}, plan)
    assert time.perf_counter() - begun < 10


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
