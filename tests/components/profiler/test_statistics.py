"""Percentiles and ratios with intervals: right on what is known, and as wide as the noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.profiler.statistics import mean, paired_p50_ratio, percentile, percentile_ratio

BLOCKS = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.floats(1e-6, 10, allow_nan=False)
)


def noisy(typical: float, blocks: int = 200, seed: int = 0) -> np.ndarray:
    """Calls whose logarithm is normal, a tenth wide, in blocks that are slow or fast together."""
    random = np.random.default_rng(seed)
    together = random.normal(0, 0.1, (blocks, 1))
    return typical * np.exp(together + random.normal(0, 0.1, (blocks, 8)))


@given(BLOCKS, st.sampled_from([0.0, 50.0, 95.0, 99.0, 100.0]))
def test_a_percentile_is_numpys_and_lies_in_its_interval(blocks: np.ndarray, q: float) -> None:
    """Of all calls alike, and within the smallest and the largest of them."""
    found = percentile(blocks, q)
    assert found.value == np.percentile(blocks, q)
    low, high = found.interval
    assert low <= found.value <= high
    assert blocks.min() - 1e-12 <= low
    assert high <= blocks.max() + 1e-12


@given(BLOCKS)
def test_a_model_against_its_own_calls_is_as_fast(blocks: np.ndarray) -> None:
    """Ratio 1, without doubt: turns are drawn together."""
    for found in (paired_p50_ratio(blocks, blocks), percentile_ratio(blocks, blocks, 99)):
        assert found.value == 1.0
        assert found.interval == (1.0, 1.0)


def test_equal_seeds_give_equal_intervals() -> None:
    """And another seed another one."""
    blocks = noisy(1.0)
    assert percentile(blocks, 95, seed=3) == percentile(blocks, 95, seed=3)
    assert percentile(blocks, 95, seed=3) != percentile(blocks, 95, seed=4)


def test_more_calls_make_an_interval_narrower() -> None:
    """By the root of their number, more or less."""
    few, many = percentile(noisy(1.0, blocks=25), 50), percentile(noisy(1.0, blocks=2500), 50)
    assert many.half_width < few.half_width / 4


@pytest.mark.parametrize("true", [0.7, 1.0, 1.3])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(true: float) -> None:
    """95 of 100, of which chance may take a few."""
    held = 0
    for seed in range(100):
        found = paired_p50_ratio(noisy(true, seed=seed), noisy(1.0, seed=1000 + seed))
        held += found.interval[0] <= true <= found.interval[1]
    assert held >= 88


def test_what_disturbs_a_turn_falls_out_of_the_ratio() -> None:
    """Half of the turns take ten times as long for both models: the ratio and its interval stay as they were."""
    slowed = np.where(np.arange(200) % 2 == 0, 10.0, 1.0)[:, np.newaxis]
    ours, theirs = noisy(1.3, seed=1), noisy(1.0, seed=2)
    quiet, disturbed = paired_p50_ratio(ours, theirs), paired_p50_ratio(ours * slowed, theirs * slowed)
    assert disturbed.value == pytest.approx(quiet.value)
    assert disturbed.interval == pytest.approx(quiet.interval)


def test_a_mean_is_one() -> None:
    """Of all calls, in its interval."""
    blocks = noisy(2.0)
    found = mean(blocks)
    assert found.value == blocks.mean()
    assert found.interval[0] < found.value < found.interval[1]
