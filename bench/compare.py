"""Our taxi pipeline against stock TFX's on the same rows: wall time, CPU time and memory of a first run, into RESULTS.md.

    python -m bench.compare [--csv data/taxi/data.csv] [--repeats 3] [--steps 1000]

The two take turns, so that a slow minute of the machine hits both. Bytecode is compiled for both beforehand.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import ours, stock_tfx
from bench.process import REPOSITORY, compile_bytecode
from bench.results import machine, table, write_section

__all__ = ["main", "report"]

WORK = REPOSITORY / "bench" / "work"
_FIGURES = {"wall_s": "wall, s", "cpu_s": "CPU, s", "peak_rss_mb": "peak memory, MB"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure our pipeline against stock TFX's.")
    parser.add_argument("--csv", type=Path, default=REPOSITORY / "data" / "taxi" / "data.csv", help="the trips")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 40 rows in stock TFX")
    arguments = parser.parse_args()
    compile_bytecode()
    runs: dict[str, list[dict[str, Any]]] = {"stock": [], "ours": []}
    for turn in range(arguments.repeats):
        runs["stock"].append(stock_tfx.measure(arguments.csv, _fresh(f"stock-{turn}"), arguments.steps))
        print("stock", json.dumps(runs["stock"][-1]), flush=True)
        runs["ours"].append(ours.measure(arguments.csv, _fresh(f"ours-{turn}")))
        print("ours ", json.dumps(runs["ours"][-1]), flush=True)
    command = f"python -m bench.compare --repeats {arguments.repeats} --steps {arguments.steps}"
    text = report(runs["stock"], runs["ours"], f"`{command}`, {_rows(arguments.csv):,} rows; {machine()}")
    write_section("compare", text)
    print(text)


def report(stock: Sequence[Mapping[str, Any]], our: Sequence[Mapping[str, Any]], source: str) -> str:
    """The section of RESULTS.md: each figure as minimum / median / maximum, and the ratio of the medians."""
    figures = [
        [title, _spread(stock, key), _spread(our, key), f"{_median(our, key) / _median(stock, key):.2f}"]
        for key, title in _FIGURES.items()
    ]
    nodes = [["stock TFX", _nodes(stock)], ["ours", _nodes(our)]]
    return "\n\n".join(
        [
            "## A first run, against stock TFX",
            f"{source}. Whole processes, imports included; bytecode compiled; in turns. Minimum / median / maximum.",
            table(["", "stock TFX", "ours", "ours / stock"], figures),
            "Seconds per node in the run of median wall time:",
            table(["", "nodes"], nodes),
        ]
    )


def _median(runs: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(median(run[key] for run in runs))


def _spread(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [run[key] for run in runs]
    digits = 0 if key == "peak_rss_mb" else 1
    return " / ".join(f"{value:,.{digits}f}" for value in (min(values), _median(runs, key), max(values)))


def _nodes(runs: Sequence[Mapping[str, Any]]) -> str:
    typical = sorted(runs, key=lambda run: run["wall_s"])[len(runs) // 2]
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in typical["nodes"].items())


def _rows(csv: Path) -> int:
    with csv.open("rb") as lines:
        return sum(1 for _ in lines) - 1


def _fresh(name: str) -> Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()
