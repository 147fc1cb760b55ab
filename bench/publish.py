"""What the version store holds under load and under kills, into `RESULTS.md`.

    python -m bench.publish [--versions 10000] [--kills 200] [--seed 7] [--folder DIR] [--disk DIR]

The load goes to a file system in memory, where nothing slows the processes down that are to get in each other's way; the
kills go to the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.results import machine, table, write_section
from bench.store_trials import Kills, Load, run_kills, run_load

__all__ = ["main"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there


def _report(load: Load, kills: Kills, where: str, command: str) -> str:
    minute = load.versions / load.seconds * 60
    rows = [
        ["versions published by 4 processes", f"{load.versions:,}, of these {load.rollbacks:,} by rollback"],
        ["versions removed by retention meanwhile", f"{load.removed:,}"],
        ["wall time", f"{load.seconds:.0f} s, {minute:,.0f} versions a minute"],
        ["looks by 2 readers", f"{load.looks:,}, at {load.distinct:,} different versions"],
        ["**incomplete versions seen**", f"**{len(load.incomplete)}**"],
        ["**numbers used twice**", f"**{len(load.twice)}**"],
        ["looks that went back to an older version", str(load.backwards)],
        ["versions removed while they were read", f"{load.vanished:,}"],
        ["findings of `fsck` afterwards", str(len(load.findings))],
        ["`kill -9` in the middle of a publish", f"{kills.kills} (a publish takes {kills.span_ms:.0f} ms)"],
        ["of these: new version already visible, whole", str(kills.visible)],
        ["of these: staging left behind, removed by the next publish", str(kills.leftovers)],
        ["**half versions, or next publishes that failed**", f"**{len(kills.broken)}**"],
    ]
    return "\n".join(
        [
            "## Publishing under load and under kills",
            "",
            f"`{command}`; {machine()}, {where}. Readers poll every 5 ms, where TF Serving waits a second."
            " What a kill can test is the order of the steps; it says nothing of power loss.",
            "",
            table(["", ""], rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both trials; 1 where one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    memory = _MEMORY if _MEMORY.is_dir() else None
    parser.add_argument("--folder", type=Path, default=memory, help="where the load goes [default: /dev/shm]")
    parser.add_argument("--disk", type=Path, help="where the kills go [default: the temporary folder]")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="bench-publish-", dir=options.folder) as memory,
        tempfile.TemporaryDirectory(prefix="bench-publish-", dir=options.disk) as disk,
    ):
        kills = run_kills(Path(disk), options.kills, options.seed)
        print(f"kills: {kills}", flush=True)
        load = run_load(Path(memory), options.versions, seed=options.seed)
        where = f"load on {_file_system(Path(memory))}, kills on {_file_system(Path(disk))}"
    command = f"python -m bench.publish --versions {options.versions} --kills {options.kills} --seed {options.seed}"
    text = _report(load, kills, where, command)
    print(text)
    for fault in (*load.incomplete, *load.findings, *kills.broken):
        print(f"FAULT {fault}")
    if not options.no_write:
        write_section("publish", text)
    return 0 if load.holds and not kills.broken else 1


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best, found = "", "an unknown file system"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mounted, kind, *_ = line.split()
        if folder.resolve().is_relative_to(mounted) and len(mounted) >= len(best):
            best, found = mounted, kind
    return found


if __name__ == "__main__":
    sys.exit(main())
