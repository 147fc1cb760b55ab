"""Stock TFX's taxi template, the hand-written script and our pipeline side by side, on the same rows, into RESULTS.md.

    python -m bench.compare [--rows 15002,100000,1000000] [--repeats 5,3,2] [--contenders NAME,…] [--render]

The contenders take turns, each turn in another order, so that a slow minute of the machine hits all. Bytecode is compiled
beforehand. What was stopped goes on where it was: see `bench.turns`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import data, ours, stock_tfx
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
from bench.process import REPOSITORY, python, run_measured, stage
from bench.turns import command, schedule, take

__all__ = ["CONTENDERS", "main"]

WORK = REPOSITORY / "bench" / "work" / "compare"
BENCHMARK = "compare"
Measure = Callable[[Path, Path], dict[str, Any]]


def main() -> None:
    """Command line."""
    parser = command("Measure our pipeline against stock TFX's and a hand-written script.")
    parser.add_argument("--rows", type=_numbers, default=[data.REAL_ROWS, 100_000, 1_000_000], help="numbers of rows")
    parser.add_argument("--repeats", type=_numbers, default=[5, 3, 2], help="turns at each; the last one counts on")
    parser.add_argument(
        "--contenders", type=lambda text: text.split(","), default=list(CONTENDERS), help="some of them"
    )
    arguments = parser.parse_args()
    repeats = arguments.repeats + arguments.repeats[-1:] * len(arguments.rows)
    turns = schedule(dict(zip(arguments.rows, repeats, strict=False)), arguments.contenders)
    take(arguments, BENCHMARK, WORK, turns, _measure)


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
