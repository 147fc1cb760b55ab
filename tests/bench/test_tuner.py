"""The section is made of what was measured: a ratio for each turn, its median, and what was found, paired by seed."""

from __future__ import annotations

import pytest

from bench.tuner import Turn, section


def turn(seed: int, auc: float, chance: float, ours: float = 30, serial: float | None = 60) -> Turn:
    return Turn(
        seed,
        {"parallel": ours, "random": 30.0} | ({"one by one": serial} if serial else {}),
        {"parallel": 150, "one by one": 148, "random": 151},
        {"parallel": 20, "one by one": 20, "random": 11},
        {"parallel": 0.96, "random": 0.955},
        {"parallel": auc, "random": chance},
    )


def test_each_turn_has_its_ratio_and_the_median_stands_below() -> None:
    """Of the seeds with which the time was measured."""
    turns = [
        turn(0, 0.951, 0.950),
        turn(1, 0.953, 0.954, 40, 50),
        turn(2, 0.952, 0.949, 33),
        turn(3, 0.95, 0.95, 1, None),
    ]
    text = section(turns, 20, "a machine", "a command")
    assert "| 1 | 40.0 | 50.0 | **0.80** | 150 / 148 |" in text
    assert "median **0.55** (target: 0.7)" in text
    assert text.endswith("a machine. `a command`")


def test_differences_are_paired_by_seed_and_have_an_interval() -> None:
    """With each seed's own; by hand: mean 0.001, deviation 0.002, t of two degrees of freedom 4.303."""
    text = section([turn(0, 0.951, 0.950), turn(1, 0.953, 0.954), turn(2, 0.952, 0.949)], 20, "a machine", "a command")
    assert "| 1 | 20, 150 | 11, 151 | 0.9600 | 0.9550 | 0.9530 | 0.9540 | -0.0010 |" in text
    assert "ours **0.9520**, random **0.9510**" in text
    assert (
        "**+0.0010**, 95 % interval -0.0040 to +0.0060, standard deviation 0.0020, not below\nwith 2 of 3 seeds" in text
    )


@pytest.mark.parametrize(
    ("by", "verdict"),
    [(0.01, "above that of chance"), (-0.01, "below that of chance"), (0.0, "not to be told from that of chance")],
)
def test_a_difference_counts_where_its_interval_leaves_zero_out(by: float, verdict: str) -> None:
    """A mean alone is no verdict."""
    turns = [turn(seed, 0.95 + by + noise, 0.95) for seed, noise in enumerate((-0.001, 0.0, 0.001))]
    assert section(turns, 20, "a machine", "a command").count(verdict) == 1
