"""Times calls of several models in turns, in one process, until the figures are narrow enough or the time is spent."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.profiler.statistics import paired_p50_ratio, percentile

__all__ = ["Plan", "time_in_turns"]

Array = npt.NDArray[np.float64]
Call = Callable[[], object]

_QUICK_RESAMPLES = 100


@dataclass(frozen=True)
class Plan:
    """How long to go on.

    Attributes:
        budget_s: for all models together; one round of blocks is finished whatever it takes.
        precision: the largest half-width of the 95 % interval, of each model's median and of each paired ratio, as a
            share of the figure, with which to stop early.
        longest_s: how long to go on after the budget is spent, where a paired ratio is not known to `roughly`: on a busy
            machine a comparison takes longer, so that it ends with an answer.
        roughly: half-width of a paired ratio's interval, as a share of it.
        calls: in a block.
        least_blocks: of each model before stopping early.
        most_blocks: of each model.
        warm_up_calls: of each model, not counted.
        seed: of the order of the models in each turn.
    """

    budget_s: float = 1.2
    precision: float = 0.02
    longest_s: float = 6.0
    roughly: float = 0.04
    calls: int = 4
    least_blocks: int = 40
    most_blocks: int = 4000
    warm_up_calls: int = 16
    seed: int = 0


def time_in_turns(models: Mapping[str, Sequence[Call]], plan: Plan) -> dict[str, Array]:
    """Seconds of each call, `[blocks, calls]`, for each model.

    Each turn runs one block of every model, in a random order, on the same requests.

    Args:
        models: name to one call for each request; as many for every model.
        plan: how long to go on.
    """
    started = time.perf_counter()
    random = np.random.default_rng(plan.seed)
    calls = _block_size(models, plan)
    blocks: dict[str, list[list[float]]] = {name: [] for name in models}
    names = sorted(models)
    done, next_look, late = 0, plan.least_blocks, False
    collecting = gc.isenabled()
    gc.disable()
    try:
        while done < plan.most_blocks:
            for index in random.permutation(len(names)).tolist():
                blocks[names[index]].append(_block(models[names[index]], done * calls, calls))
            done += 1
            spent = time.perf_counter() - started
            due = done >= next_look or (spent > plan.budget_s and not late)
            if spent > max(plan.budget_s, plan.longest_s) or (
                due and _may_stop([np.array(blocks[name]) for name in names], spent, plan)
            ):
                break
            if due:
                next_look, late = int(done * 1.3) + 1, spent > plan.budget_s
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(found) for name, found in blocks.items()}


def _block_size(models: Mapping[str, Sequence[Call]], plan: Plan) -> int:
    """Warms every model up; how many calls a block may have so that the budget holds the least number of blocks."""
    slowest = 0.0
    for requests in models.values():
        begun = time.perf_counter()
        times: list[float] = []
        for index in range(plan.warm_up_calls):
            times += _block(requests, index, 1)
            if time.perf_counter() - begun > plan.budget_s / (4 * len(models)):
                break
        slowest = max(slowest, min(times))
    affordable = plan.budget_s / (plan.least_blocks * len(models) * max(slowest, 1e-9))
    return max(1, min(plan.calls, int(affordable)))


def _block(requests: Sequence[Call], first: int, calls: int) -> list[float]:
    """Seconds of consecutive calls, beginning with the request `first`, modulo their number."""
    clock = time.perf_counter
    seconds = []
    for index in range(first, first + calls):
        call = requests[index % len(requests)]
        begun = clock()
        call()
        seconds.append(clock() - begun)
    return seconds


def _may_stop(models: Sequence[Array], spent_s: float, plan: Plan) -> bool:
    if spent_s > plan.budget_s and _ratios_narrow_enough(models, plan.roughly):
        return True
    return _narrow_enough(models, plan.precision)


def _narrow_enough(models: Sequence[Array], precision: float) -> bool:
    """Whether each median is known well enough, and each ratio of the first model's to another's in the same turns."""
    medians = [percentile(blocks, 50, resamples=_QUICK_RESAMPLES) for blocks in models]
    return all(median.half_width <= precision for median in medians) and _ratios_narrow_enough(models, precision)


def _ratios_narrow_enough(models: Sequence[Array], precision: float) -> bool:
    """Always where there is one model alone."""
    first, *others = models
    ratios = [paired_p50_ratio(first, other, resamples=_QUICK_RESAMPLES) for other in others]
    return all(ratio.half_width <= precision for ratio in ratios)
