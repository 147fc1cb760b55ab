"""The table of a search's trials: who won, what each costs, and why the others did not win."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from runners.leaderboard import leaderboard
from schemas.tuning import Search, Trial


def _trial(number: int, state: str, objective: float, **figures: float) -> Trial:
    return Trial.model_validate(
        {
            "number": number,
            "values": {"rate": 0.5},
            "objective": objective,
            "state": state,
            "reason": "" if state == "complete" else "too slow",
            "digest": "d",
            "figures": {"auc": objective, "parameters": 1234.0} | figures,
        }
    )


def _table(*trials: Trial, best: int) -> Table:
    table = leaderboard(Search(objective="auc", better="max", best=best, trials=trials))[0]
    assert isinstance(table, Table)
    return table


def test_each_cost_that_was_measured_has_its_column() -> None:
    """Of a latency with the batch that it was measured with, and of files for devices; the model's metrics have none."""
    costs = {"latency_p50_ms batch 1": 2.5, "latency_p99_ms": 7.0, "size_mb": 0.25, "tflite size_mb int8": 0.125}
    table = _table(_trial(0, "pruned", 0.9), _trial(1, "complete", 0.8, **costs), best=1)
    assert [column.header for column in table.columns] == [
        *("trial", "state", "auc", "epochs", "seconds"),
        *("parameters", "size_mb", "latency_p50_ms batch 1", "latency_p99_ms", "tflite size_mb int8"),
        *("rate", "why"),
    ]
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert cells["latency_p50_ms batch 1"] == ["2.5", ""]
    assert cells["tflite size_mb int8"] == ["0.125", ""]
    assert cells["parameters"] == ["1,234", "1,234"]


def test_the_winner_stands_first_and_the_others_say_why() -> None:
    """However good the objective of one that cannot ship."""
    table = _table(_trial(0, "infeasible", 0.9), _trial(1, "complete", 0.8), best=1)
    console = Console(width=200, no_color=True)
    with console.capture() as shown:
        console.print(table)
    first, second = (line.split() for line in shown.get().splitlines()[2:])
    assert first[:2] == ["1", "best"]
    assert second[:2] == ["0", "infeasible"]
    assert second[-2:] == ["too", "slow"]
