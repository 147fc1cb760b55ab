"""A first run of our taxi pipeline, in folders of its own, so that nothing of an earlier run is found.

python -m bench.ours --csv data/taxi/data.csv --work DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.process import REPOSITORY, run_measured

__all__ = ["main", "measure", "write_config"]

CONFIG = REPOSITORY / "satisfice.yaml"


def main() -> None:
    """Command line. Prints one JSON line."""
    parser = argparse.ArgumentParser(description="Run our taxi pipeline.")
    parser.add_argument("--csv", type=Path, required=True, help="the trips")
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder for all that is written")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.csv, arguments.work)))


def measure(csv: Path, work: Path, config: Path = CONFIG) -> dict[str, Any]:
    """Runs the pipeline in a process of its own.

    Args:
        csv: the trips.
        work: an empty or new folder.
        config: the configuration of which a copy is run.

    Returns:
        `wall_s`, `cpu_s`, `peak_rss_mb`, `nodes` (name to seconds), `pushed`, and `model`: the folder that was pushed.

    Raises:
        RuntimeError: the run failed or was blocked; the message names its log.
    """
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise RuntimeError(f"{work} is not empty: a run in it would find the cache of the run before")
    copy = write_config(config, csv.absolute(), work)
    log = work / "run.log"
    satisfice = Path(sys.executable).with_name("satisfice")
    ended = run_measured([str(satisfice), "run", str(copy), "--json"], log)
    if ended.code:
        raise RuntimeError(f"satisfice run ended with exit code {ended.code}: see {log} and {log.with_suffix('.out')}")
    models = sorted((work / "serving").glob("*/saved_model.pb"))
    nodes = {node["node"]: round(node["seconds"], 1) for node in json.loads(ended.output)["nodes"]}
    return {**ended.cost.as_dict(), "nodes": nodes, "pushed": bool(models), "model": str(models[-1].parent)}


def write_config(config: Path, csv: Path, work: Path) -> Path:
    """A copy of a configuration that reads one CSV file and writes below one folder."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["data"]["source"]["path"] = str(csv)
    values["data"]["schema"] = str(config.parent / values["data"]["schema"])
    values["push"]["serving"]["base_path"] = str(work / "serving")
    values["metadata"] = {"sqlite": {"path": str(work / "metadata.db")}}
    copy = work / config.name
    copy.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return copy


if __name__ == "__main__":
    main()
