"""Stock TFX's taxi template, the hand-written script and our pipeline side by side, on the same rows, into RESULTS.md.

    python -m bench.compare [--rows 15002,100000,1000000] [--repeats 5,3,2] [--contenders NAME,…] [--render]

The contenders take turns, each turn in another order, so that a slow minute of the machine hits all. Bytecode is compiled
beforehand. Each measurement is kept as soon as it is taken: what was stopped goes on where it was, as long as the code that
is measured has not changed; one that fails leaves the others' figures, and is tried again the next time.
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

from bench import data, ours, render, stock_tfx
from bench.contenders import (
    BARE_EPOCH,
    BARE_STEPS,
    EPOCH_BATCH,
    OURS,
    OURS_EPOCH,
    OURS_STEPS,
    STEPS,
    STEPS_BATCH,
    STOCK,
)
from bench.process import REPOSITORY, compile_bytecode, python, run_measured, stage
from bench.records import Record, append, done, load, new_session
from bench.results import machine

__all__ = ["CONTENDERS", "attempt", "main", "schedule"]

WORK = REPOSITORY / "bench" / "work" / "compare"
BENCHMARK = "compare"
Measure = Callable[[Path, Path], dict[str, Any]]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure our pipeline against stock TFX's and a hand-written script.")
    parser.add_argument("--rows", type=_numbers, default=[data.REAL_ROWS, 100_000, 1_000_000], help="numbers of rows")
    parser.add_argument("--repeats", type=_numbers, default=[5, 3, 2], help="turns at each; the last one counts on")
    parser.add_argument(
        "--contenders", type=lambda text: text.split(","), default=list(CONTENDERS), help="some of them"
    )
    parser.add_argument("--session", default="", help="to go on with, though the code has changed since it began")
    parser.add_argument("--render", action="store_true", help="measure nothing; write RESULTS.md from what is known")
    arguments = parser.parse_args()
    if not arguments.render:
        compile_bytecode()
        session = arguments.session or new_session()
        repeats = arguments.repeats + arguments.repeats[-1:] * len(arguments.rows)
        for rows, turn, name in schedule(dict(zip(arguments.rows, repeats, strict=False)), arguments.contenders):
            wanted = Record(BENCHMARK, name, rows, turn, session)
            if wanted.key not in done(load()):
                attempt(wanted, partial(_measure, name, rows), WORK)
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


def attempt(wanted: Record, measure: Callable[[Path], dict[str, Any]], work: Path) -> None:
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


def _measure(name: str, rows: int, work: Path) -> dict[str, Any]:
    (csv,) = data.trips(rows).iterdir()
    return CONTENDERS[name](csv, work)


def _stock(csv: Path, work: Path) -> dict[str, Any]:
    return stock_tfx.measure(csv, work, STEPS)


def _ours(csv: Path, work: Path, **training: int) -> dict[str, Any]:
    return ours.measure(csv, work / "run", ours.configure(work, **training))


def _ours_steps(csv: Path, work: Path) -> dict[str, Any]:
    return _ours(csv, work, steps=STEPS, batch=STEPS_BATCH)


def _ours_epoch(csv: Path, work: Path) -> dict[str, Any]:
    return _ours(csv, work, epochs=1, batch=EPOCH_BATCH)


def _bare_steps(csv: Path, work: Path) -> dict[str, Any]:
    return _bare(csv, work, "--steps", str(STEPS), "--batch", str(STEPS_BATCH))


def _bare_epoch(csv: Path, work: Path) -> dict[str, Any]:
    return _bare(csv, work, "--epochs", "1", "--batch", str(EPOCH_BATCH))


def _bare(csv: Path, work: Path, *training: str) -> dict[str, Any]:
    """The hand-written script in a process of its own; raises RuntimeError where it failed."""
    log, model = work / "run.log", work / "model"
    command = [python(), "-m", "bench.bare", "--csv", str(csv), "--export", str(model), *training]
    ended = run_measured(command, log)
    if ended.code or not (model / "saved_model.pb").is_file():
        raise RuntimeError(f"the hand-written script ended with exit code {ended.code}: see {log}")
    told = json.loads(ended.output)
    spans = {"import": (ended.started, told["stages"]["read"][0]), **told["stages"]}
    stages = {name: stage(ended.samples, *span) for name, span in spans.items()}
    return {**ended.cost.as_dict(), **told, "stages": stages}


CONTENDERS: dict[str, Measure] = {
    STOCK: _stock,
    OURS_STEPS: _ours_steps,
    BARE_STEPS: _bare_steps,
    OURS_EPOCH: _ours_epoch,
    BARE_EPOCH: _bare_epoch,
    OURS: _ours,
}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
