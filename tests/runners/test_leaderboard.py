"""The table of a search's trials: who won, what each costs, and why the others did not win."""

from __future__ import annotations

import re

from rich.console import Console

from runners.leaderboard import leaderboard
from schemas.tuning import Search, Trial


def _trial(number: int, state: str, objective: float, **figures: float) -> Trial:
    return Trial.model_validate(
        {
            "number": number,
            "values": {"rate": 0.5},
            "objective": objective,
            "epochs": 3,
            "state": state,
            "reason": "" if state == "complete" else "too slow",
            "digest": "d",
            "figures": {"auc": objective, "parameters": 1234.0} | figures,
        }
    )


def _shown(*trials: Trial, best: int, width: int = 200) -> list[str]:
    """The lines that a terminal of some width shows, from the head of the table on."""
    console = Console(width=width, no_color=True)
    with console.capture() as shown:
        for part in leaderboard(Search(objective="auc", better="max", best=best, trials=trials)):
            console.print(part)
    return [line.rstrip() for line in shown.get().splitlines()[1:]]


COSTS = {"latency_p50_ms batch 1": 2.5, "latency_p99_ms": 7.0, "size_mb": 0.25, "tflite size_mb int8": 0.125}


def test_each_cost_that_was_measured_has_its_column() -> None:
    """Of a latency with the batch that it was measured with, and of files for devices; the model's metrics have none."""
    head, best, other, *_ = _shown(_trial(0, "pruned", 0.9), _trial(1, "complete", 0.8, **COSTS), best=1)
    assert re.split("  +", head) == [
        *("trial", "state", "auc", "epochs", "seconds"),
        *("parameters", "size_mb", "latency_p50_ms batch 1", "latency_p99_ms", "tflite size_mb int8"),
        "rate",
    ]
    assert best.split() == ["1", "best", "0.8", "3", "0.0", "1,234", "0.25", "2.5", "7", "0.125", "0.5"]
    assert other.split() == ["0", "pruned", "0.9", "3", "0.0", "1,234", "0.5"]


def test_costs_of_the_few_stand_below_where_there_is_no_room() -> None:
    """So that no line of the table is broken; every line keeps to the width."""
    lines = _shown(_trial(0, "pruned", 0.9), _trial(1, "complete", 0.8, **COSTS), best=1, width=80)
    assert lines[0].split() == ["trial", "state", "auc", "epochs", "seconds", "parameters", "rate"]
    assert lines[3] == "measured: trial 1: size_mb 0.25, latency_p50_ms batch 1 2.5, latency_p99_ms 7,"
    assert lines[4] == "  tflite size_mb int8 0.125"
    assert max(map(len, lines)) <= 80


def test_hyperparameters_share_a_column_where_there_is_no_room() -> None:
    """In the order of its head; a trial is a line still."""
    values = {f"hyperparameter_{number}": number for number in range(3)}
    trial = _trial(0, "complete", 0.8).model_copy(update={"values": values})
    lines = _shown(trial, best=0, width=82)
    assert lines[2].split()[-5:] == ["0", "|", "1", "|", "2"]
    assert "hyperparameter_0" in lines[0]
    assert "best: trial 0, with hyperparameter_0 0, hyperparameter_1 1, hyperparameter_2 2" in lines


def test_the_winner_stands_first_and_the_others_say_why() -> None:
    """However good the objective of one that cannot ship; a reason that several have is told once."""
    lines = _shown(
        _trial(0, "infeasible", 0.9),
        _trial(1, "complete", 0.8),
        _trial(2, "infeasible", 0.95),
        _trial(3, "failed", 0.1),
        best=1,
    )
    assert lines[1].split()[:2] == ["1", "best"]
    assert lines[2].split()[:2] == ["2", "infeasible"]
    assert lines[5:7] == ["infeasible: trials 2, 0: too slow", "failed: trial 3: too slow"]
    assert "best: trial 1, with rate 0.5" in lines
