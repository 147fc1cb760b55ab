"""Running again: what an unchanged run takes, and what runs where only the model's code has changed. Into RESULTS.md.

python -m bench.rerun [--rows 15002] [--repeats 3] [--render]
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from bench import data, ours
from bench.process import REPOSITORY
from bench.turns import command, schedule, take

__all__ = ["main"]

WORK = REPOSITORY / "bench" / "work" / "rerun"
BENCHMARK = "rerun"
MODULE = "rerun_taxi"
_BEFORE, _AFTER = 'activation="relu"', 'activation="elu"'


def main() -> None:
    """Command line."""
    parser = command("Measure what running again takes.")
    parser.add_argument("--rows", type=int, default=data.REAL_ROWS)
    parser.add_argument("--repeats", type=int, default=3, help="each begins anew")
    arguments = parser.parse_args()
    take(arguments, BENCHMARK, WORK, schedule({arguments.rows: arguments.repeats}, ["ours"]), _measure)


def _measure(_contender: str, rows: int, work: Path) -> dict[str, Any]:
    """`runs`: of the first, second and third run, and the one after a change of `build_model`, cost and nodes that ran."""
    (csv,) = data.trips(rows).iterdir()
    config = ours.write_config(ours.configure(work), csv, work)
    module = work / f"{MODULE}.py"
    shutil.copy(REPOSITORY / "pipeline" / "models" / "taxi.py", module)
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["model"]["module"] = MODULE
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    runs = {name: _run(config, work / f"{name}.log") for name in ("first", "second", "third")}
    code = module.read_text(encoding="utf-8")
    if code.count(_BEFORE) != 1:
        raise RuntimeError(f"{module} has not exactly one {_BEFORE} to change")
    module.write_text(code.replace(_BEFORE, _AFTER), encoding="utf-8")
    runs["changed model"] = _run(config, work / "changed.log")
    return {"runs": runs}


def _run(config: Path, log: Path) -> dict[str, Any]:
    ended = ours.run(config, log)
    ran = [node["node"] for node in json.loads(ended.output)["nodes"] if node["state"] == "ran"]
    return {**ended.cost.as_dict(), "ran": ran}


if __name__ == "__main__":
    main()
