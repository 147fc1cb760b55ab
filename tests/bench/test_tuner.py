"""The section is made of what was measured: a ratio for each turn, its median, and the mean of what was found."""

from __future__ import annotations

from bench.tuner import Turn, section


def turn(seed: int, ours: float, serial: float, auc: float, chance: float) -> Turn:
    return Turn(
        seed,
        {"parallel": ours, "one by one": serial, "random": 30.0},
        {"parallel": 150, "one by one": 148, "random": 151},
        {"parallel": 20, "one by one": 20, "random": 11},
        {"parallel": auc, "random": chance},
    )


def test_each_turn_has_its_ratio_and_the_median_stands_below() -> None:
    """With the AUC of both, seed by seed and on the mean."""
    turns = [turn(0, 30, 60, 0.951, 0.950), turn(1, 40, 50, 0.953, 0.954), turn(2, 33, 60, 0.952, 0.949)]
    text = section(turns, 20, "a machine", "a command")
    assert "| 1 | 40.0 | 50.0 | **0.80** | 150 / 148 | 11, 151 | 0.9530 | 0.9540 |" in text
    assert "median **0.55** (target: 0.7)" in text
    assert "ours **0.9520**, random\n**0.9510**" in text
    assert text.endswith("a machine. `a command`")
