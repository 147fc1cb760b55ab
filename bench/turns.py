"""What the benchmarks beside one another share: their command line, the order of their turns, and each measurement kept.

Each measurement is kept as soon as it is taken: what was stopped goes on where it was, as long as the code that is measured
has not changed; one that fails leaves the others' figures, and is tried again the next time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import render
from bench.process import compile_bytecode
from bench.records import Record, append, done, load, new_session
from bench.results import machine

__all__ = ["command", "schedule", "take"]

Measure = Callable[[str, int, Path], dict[str, Any]]
"""From a contender, a number of rows and an empty folder to what was measured."""


def command(description: str) -> argparse.ArgumentParser:
    """The command line of a benchmark, to which it adds its own options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--session", default="", help="to go on with, though the code has changed since it began")
    parser.add_argument("--render", action="store_true", help="measure nothing; write RESULTS.md from what is known")
    return parser


def take(
    arguments: argparse.Namespace, benchmark: str, work: Path, turns: Iterator[tuple[int, int, str]], measure: Measure
) -> None:
    """Takes what is not known yet, unless it is only to be rendered, and renders.

    Args:
        arguments: of a command line as `command` makes it.
        benchmark: its name in the records.
        work: where each measurement has a folder.
        turns: rows, turn and contender of each, in order; see `schedule`.
        measure: takes one.
    """
    if not arguments.render:
        compile_bytecode()
        session = arguments.session or new_session()
        for rows, turn, name in turns:
            wanted = Record(benchmark, name, rows, turn, session)
            if wanted.key not in done(load()):
                _attempt(wanted, partial(measure, name, rows), work)
    render.render(load(), arguments.session)


def schedule(repeats: Mapping[int, int], contenders: list[str]) -> Iterator[tuple[int, int, str]]:
    """Rows, turn and contender of each measurement, in order: in each turn another contender begins.

    >>> list(schedule({10: 2}, ["a", "b"]))
    [(10, 0, 'a'), (10, 0, 'b'), (10, 1, 'b'), (10, 1, 'a')]
    """
    for rows, turns in repeats.items():
        for turn in range(turns):
            first = turn % len(contenders)
            for name in contenders[first:] + contenders[:first]:
                yield rows, turn, name


def _attempt(wanted: Record, measure: Callable[[Path], dict[str, Any]], work: Path) -> None:
    """Takes a measurement in a folder that is removed when it has succeeded, and keeps it, or why it failed."""
    folder = work / f"{wanted.contender}-{wanted.rows}-{wanted.turn}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        record = replace(wanted, measured=measure(folder), machine=machine())
    except Exception as error:  # noqa: BLE001 - whatever befell one contender, the others go on
        record = replace(wanted, error=f"{type(error).__name__}: {error}", machine=machine())
    else:
        shutil.rmtree(folder, ignore_errors=True)
    append(record)
    told = record.error or json.dumps({key: value for key, value in record.measured.items() if key != "stages"})
    print(f"{record.rows:>10,}  turn {record.turn}  {record.contender:<11}", told, flush=True, file=sys.stderr)
