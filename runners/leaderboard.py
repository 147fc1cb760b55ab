"""The trials of a search for hyperparameters, as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from components.lineage.reader import NodeRecord
from components.tuner.reasons import grouped
from schemas.tuning import TRIALS_FILE, Search, Trial, plain

__all__ = ["leaderboard", "search_lines", "search_of"]

_SHOWN = 20
_STYLES = {
    "complete": "green",
    "pruned": "cyan",
    "infeasible": "yellow",
    "timed_out": "magenta",
    "failed": "red",
}
_COSTS = ("parameters", "size_mb", "latency_p50_ms", "latency_p99_ms", "peak_memory_mb")
_INDENT = 2
_LEAST = 20
_BETWEEN = " | "
_UNBOUNDED = 10_000
"""Characters of a line."""


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
    """The table of trials, the winner first, why the others did not win, and what to know beside it.

    Args:
        search: the record; None where there was no search, of which nothing is told.
        every: shows all trials; else the first twenty.
    """
    if search is None:
        return []
    trials = search.leaderboard
    shown = trials if every else trials[:_SHOWN]
    more = [f"{len(trials) - len(shown)} more trials: --all shows them."] if len(shown) < len(trials) else []
    return [_Trials(search, tuple(shown)), *map(_Hanging, [*search_lines(search), *more])]


def search_lines(search: Search | None) -> list[str]:
    """What came of a search, without its table: why trials did not win, all in a line, the winner's values, what to know.

    Args:
        search: the record; None where there was no search, of which nothing is told.
    """
    if search is None:
        return []
    won = [f"best: trial {search.winner.number}, with {_told(search.winner.values)}"] if search.winner else []
    return [
        *grouped(search.leaderboard),
        f"tuning: {search.summary}; {_speed(search)}",
        *won,
        *(f"note: {note}." for note in search.notes),
    ]


@dataclass(frozen=True)
class _Trials:
    """The table, as wide as there is room: a column for each cost and each hyperparameter, or fewer."""

    search: Search
    shown: tuple[Trial, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The first that fits, and below it, in lines, the costs that have no column in it."""
        costs = _costs(self.shown)
        few = [name for name in costs if all(name in trial.figures for trial in self.shown if trial.epochs)]
        held, table = next(
            (held, table)
            for held, split, least in ((costs, True, 0), (few, True, 0), (few, False, 0), ([], False, _UNBOUNDED))
            if _width(table := self._table(held, split=split), console, options) <= max(options.max_width, least)
        )
        yield table
        for trial in self.shown:
            left = {name: trial.figures[name] for name in _costs([trial]) if name not in {*held, *few}}
            if left:
                yield _Hanging(f"measured: trial {trial.number}: {_told({}, left)}")

    def _table(self, costs: Sequence[str], *, split: bool) -> Table:
        """The table with columns for some costs; `split`: a column for each hyperparameter rather than one for all."""
        names = list(dict.fromkeys(name for trial in self.shown for name in trial.values))
        table = Table(title="Trials", title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for name in (self.search.objective, "epochs", "seconds", *costs):
            table.add_column(escape(name), justify="right", no_wrap=True)
        if split:
            for name in names:
                table.add_column(escape(name), no_wrap=True)
        else:
            table.add_column(escape(_BETWEEN.join(names)))
        for trial in self.shown:
            values = [_value(trial.values[name]) if name in trial.values else "" for name in names]
            table.add_row(*self._figures(trial, costs), *map(escape, values if split else [_BETWEEN.join(values)]))
        return table

    def _figures(self, trial: Trial, costs: Sequence[str]) -> list[str]:
        style = _STYLES[trial.state]
        winner = trial.number == self.search.best
        return [
            f"[bold]{trial.number}[/]" if winner else str(trial.number),
            f"[{style}]{'best' if winner else trial.state.replace('_', ' ')}[/]",
            "" if trial.objective is None else f"{trial.objective:.5g}",
            str(trial.epochs),
            f"{trial.seconds:.1f}",
            *(plain(trial.figures[name]) if name in trial.figures else "" for name in costs),
        ]


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    """Characters of a table whose lines are not broken."""
    return Measurement.get(console, options.update(width=_UNBOUNDED), table).maximum


@dataclass(frozen=True)
class _Hanging:
    """A line whose further lines, where it is too long, are indented."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Breaks it between words."""
        first, *rest = Text(self.text).wrap(console, max(_LEAST, options.max_width - _INDENT))
        yield first
        for line in rest:
            line.pad_left(_INDENT)
            yield line


def _costs(trials: Iterable[Trial]) -> list[str]:
    """Names of what was measured of a model or of its payload, of a latency with its batch, and of files for devices."""
    known = {name for trial in trials for name in trial.figures}
    of_model = [name for cost in _COSTS for name in sorted(known) if name == cost or name.startswith(f"{cost} ")]
    return [*of_model, *sorted(name for name in known if name.startswith("tflite "))]


def _told(values: Mapping[str, JsonValue], figures: Mapping[str, float] | None = None) -> str:
    """Hyperparameters and figures in a few words.

    >>> _told({"units": [64, 32], "rate": 0.00123456}, {"parameters": 2369.0})
    'units [64, 32], rate 0.001235, parameters 2,369'
    """
    words = [f"{name} {_value(one)}" for name, one in values.items()]
    return ", ".join([*words, *(f"{name} {plain(one)}" for name, one in (figures or {}).items())])


def _value(value: JsonValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _speed(search: Search) -> str:
    again = f", {search.resumed} of them done before it was cut off" if search.resumed else ""
    return f"{search.parallel} at once, {search.seconds:.1f} s{again}; {search.searcher}"
