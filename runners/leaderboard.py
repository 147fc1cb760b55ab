"""The trials of a search for hyperparameters, as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from components.lineage.reader import NodeRecord
from schemas.tuning import TRIALS_FILE, Search, Trial

__all__ = ["leaderboard", "search_of"]

_SHOWN = 20
_STYLES = {"complete": "green", "pruned": "cyan", "infeasible": "yellow", "timed_out": "magenta", "failed": "red"}
_COSTS = ("parameters", "size_mb", "latency_p50_ms", "latency_p99_ms", "peak_memory_mb")


def search_of(nodes: Iterable[NodeRecord | None]) -> Search | None:
    """The record of a run's search; None where there was none, or it is gone."""
    for node in nodes:
        if node is None or node.node != "Tuner":
            continue
        for output in node.outputs:
            if output.key == "tuner_results":
                return _read(Path(output.uri) / TRIALS_FILE)
    return None


def _read(file: Path) -> Search | None:
    try:
        return Search.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def leaderboard(search: Search | None, *, every: bool = False) -> list[Any]:
    """The table of trials, the winner first, and what to know beside it.

    Args:
        search: the record; None where there was no search, of which nothing is told.
        every: shows all trials; else the first twenty.
    """
    if search is None:
        return []
    trials = search.leaderboard
    costs = _costs(trials)
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    table = Table(title="Trials", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name in (search.objective, "epochs", "seconds", *costs):
        table.add_column(name, justify="right")
    for name in names:
        table.add_column(escape(name))
    table.add_column("why")
    shown = trials if every else trials[:_SHOWN]
    for trial in shown:
        table.add_row(*_row(trial, search, costs, names))
    more = [f"{len(trials) - len(shown)} more trials: --all shows them."] if len(shown) < len(trials) else []
    lines = [f"tuning: {search.summary}; {_speed(search)}", *(f"note: {note}." for note in search.notes), *more]
    return [table, *(Text(line) for line in lines)]


def _costs(trials: Iterable[Trial]) -> list[str]:
    """Names of what was measured of a model or of its payload, of a latency with its batch, and of files for devices."""
    known = {name for trial in trials for name in trial.figures}
    of_model = [name for cost in _COSTS for name in sorted(known) if name == cost or name.startswith(f"{cost} ")]
    return [*of_model, *sorted(name for name in known if name.startswith("tflite "))]


def _row(trial: Trial, search: Search, costs: list[str], names: list[str]) -> list[str]:
    style = _STYLES[trial.state]
    winner = trial.number == search.best
    return [
        f"[bold]{trial.number}[/]" if winner else str(trial.number),
        f"[{style}]{'best' if winner else trial.state}[/]",
        "" if trial.objective is None else f"{trial.objective:.5g}",
        str(trial.epochs),
        f"{trial.seconds:.1f}",
        *(f"{trial.figures[name]:,.4g}" if name in trial.figures else "" for name in costs),
        *(escape(_value(trial.values[name])) if name in trial.values else "" for name in names),
        escape(trial.reason),
    ]


def _value(value: JsonValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _speed(search: Search) -> str:
    again = f", {search.resumed} of them done before it was cut off" if search.resumed else ""
    return f"{search.parallel} at once, {search.seconds:.1f} s{again}; {search.searcher}"
