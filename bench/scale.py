"""Our pipeline alone on many rows: is its memory flat, are all rows accounted for, where does the time go? Into RESULTS.md.

    python -m bench.scale [--rows 1000000,10000000] [--repeats 1] [--render]

It trains one epoch at batch 1,024, so that every row is read, transformed, learnt and judged. The room on the disk is checked
beforehand, by what the run before it took per row.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench import data, ours
from bench.contenders import EPOCH_BATCH
from bench.process import REPOSITORY
from bench.records import load
from bench.turns import command, schedule, take

__all__ = ["main"]

WORK = REPOSITORY / "bench" / "work" / "scale"
BENCHMARK = "scale"
CONTENDER = "ours-epoch"
_BYTES_PER_ROW = 1200
"""Of all that a run writes, where none has told yet; the CSV comes on top."""
_RESERVE = 1.2


def main() -> None:
    """Command line."""
    parser = command("Run our pipeline on many rows.")
    parser.add_argument("--rows", default="1000000,10000000", help="numbers of rows, rising")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each")
    arguments = parser.parse_args()
    repeats = {int(rows): arguments.repeats for rows in arguments.rows.split(",")}
    take(arguments, BENCHMARK, WORK, schedule(repeats, [CONTENDER]), _measure)


def _measure(_contender: str, rows: int, work: Path) -> dict[str, Any]:
    """As `bench.ours.measure`, and `disk_mb`: what the run has written.

    Raises:
        OSError: the disk has no room for the run.
        RuntimeError: the run failed, or the rows of all splits are not as many as went in.
    """
    (csv,) = data.trips(rows).iterdir()
    _check_room(rows, work)
    config = ours.configure(work, epochs=1, batch=EPOCH_BATCH)
    measured = ours.measure(csv, work / "run", config)
    counted = sum(measured["rows"].values())
    if counted != rows:
        raise RuntimeError(f"{rows:,} rows went in and {counted:,} came out")
    return {**measured, "disk_mb": round(_size(work) / 1e6, 1)}


def _check_room(rows: int, work: Path) -> None:
    known = [record for record in load() if record.benchmark == BENCHMARK and not record.error]
    per_row = max([1e6 * one.measured["disk_mb"] / one.rows for one in known], default=_BYTES_PER_ROW)
    need, free = _RESERVE * rows * per_row, shutil.disk_usage(work).free
    if free < need:
        raise OSError(f"a run on {rows:,} rows needs {need / 1e9:.1f} GB below {work}, {free / 1e9:.1f} GB are free")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
