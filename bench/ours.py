"""A first run of our taxi pipeline, in folders of its own, so that nothing of an earlier run is found.

    python -m bench.ours --csv data/taxi/data.csv --work DIR [--steps 1000 --batch 40 | --epochs 1 --batch 1024]

Without `--steps` or `--epochs` it trains as `satisfice.yaml` says. The limits of the gates are lowered wherever the data or the training
is not that file's, so that every run is judged on as many counts and pushes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.process import REPOSITORY, Ended, python, run_measured

__all__ = ["CONFIG", "configure", "main", "measure", "run", "write_config"]

CONFIG = REPOSITORY / "satisfice.yaml"
_STEPPED = "bench.stepped"
_NEVER_MISSED = {"min": 0.01, "max": 100.0, "max_drop": 0.9}
_TRAINED = re.compile(r"(\d+) epochs")


def main() -> None:
    """Command line. Prints one JSON line."""
    parser = argparse.ArgumentParser(description="Run our taxi pipeline.")
    parser.add_argument("--csv", type=Path, required=True, help="the trips")
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder for all that is written")
    parser.add_argument("--steps", type=int, help="training steps")
    parser.add_argument("--epochs", type=int, help="training epochs")
    parser.add_argument("--batch", type=int, default=40, help="rows per step, with --steps or --epochs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    config = configure(arguments.work, arguments.steps, arguments.epochs, arguments.batch)
    print(json.dumps(measure(arguments.csv, arguments.work / "run", config)))


def configure(folder: Path, steps: int | None = None, epochs: int | None = None, batch: int = 40) -> Path:
    """Writes a configuration like `satisfice.yaml`, with gates that any model meets, and returns its path.

    Args:
        folder: where to.
        steps, epochs: how long to train, one of the two, and without files for devices; else as the original says.
        batch: rows per step, with `steps` or `epochs`.
    """
    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    values["data"]["schema"] = str(CONFIG.parent / values["data"]["schema"])
    values["gates"]["optimize"]["at_least_champion_minus"] = _NEVER_MISSED["max_drop"]
    for gate in values["gates"]["satisfy"]:
        gate.update({key: limit for key, limit in _NEVER_MISSED.items() if key in gate})
    if steps or epochs:
        _leave_out_files_for_devices(values)
        values["training"] = {"global_batch_size": batch, "epochs": epochs or 1}
    if steps:
        values["model"]["module"] = _STEPPED
        values["model"]["hyperparameters"]["steps"] = steps
    config = folder / CONFIG.name
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return config


def _leave_out_files_for_devices(values: dict[str, Any]) -> None:
    """Takes out what the others do not make either: `.tflite` files, where they would be pushed, and their gates."""
    values.get("export", {}).pop("tflite", None)
    values["push"].pop("edge", None)
    gates = values["gates"]
    gates["satisfy"] = [gate for gate in gates["satisfy"] if gate.get("payload") != "tflite"]


def measure(csv: Path, work: Path, config: Path = CONFIG) -> dict[str, Any]:
    """Runs the pipeline in a process of its own.

    Args:
        csv: the trips: a file, or a pattern.
        work: an empty or new folder.
        config: the configuration of which a copy is run.

    Returns:
        What it cost (`bench.process.Cost`); `stages`: by node `seconds`, `cpu_s`, `peak_mb` (resident memory of its process,
        shared pages included; both None where it had no process of its own); `rows` by split; `quality`; `steps`; and `model`: the folder that was pushed.

    Raises:
        RuntimeError: the run failed or was blocked; the message names its log.
    """
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise RuntimeError(f"{work} is not empty: a run in it would find the cache of the run before")
    copy = write_config(config, csv.absolute(), work)
    ended = run(copy, work / "run.log")
    answer = json.loads(ended.output)
    models = sorted((work / "serving").glob("*/saved_model.pb"))
    ran = [node for node in answer["nodes"] if node["state"] == "ran"]
    return {
        **ended.cost.as_dict(),
        "stages": {node["node"]: _stage(node) for node in ran},
        "rows": answer["data_decision"]["rows"],
        "quality": _quality(answer["decision"]["gates"]),
        "steps": _steps(yaml.safe_load(copy.read_text(encoding="utf-8")), answer),
        "model": str(models[-1].parent),
    }


def run(config: Path, log: Path) -> Ended:
    """`satisfice run --json`, measured.

    Raises:
        RuntimeError: it ended with another exit code than 0; the message names its log.
    """
    ended = run_measured([python(), "-m", "runners.cli", "run", str(config), "--json"], log)
    if ended.code:
        raise RuntimeError(f"satisfice run ended with exit code {ended.code}: see {log} and {log.with_suffix('.out')}")
    return ended


def write_config(config: Path, csv: Path, work: Path) -> Path:
    """A copy of a configuration that reads one CSV file and writes below one folder."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["data"]["source"]["path"] = str(csv)
    values["data"]["schema"] = str(config.parent / values["data"]["schema"])
    values["push"]["serving"]["base_path"] = str(work / "serving")
    if "edge" in values["push"]:
        values["push"]["edge"]["base_path"] = str(work / "edge")
    values["metadata"] = {"sqlite": {"path": str(work / "metadata.db")}}
    copy = work / config.name
    copy.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return copy


def _stage(node: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "seconds": round(node["seconds"], 2),
        "cpu_s": None if node["cpu_s"] is None else round(node["cpu_s"], 2),
        "peak_mb": node["peak_memory_mb"],
    }


def _quality(gates: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures on the whole split that the gates judged."""
    served = [gate for gate in gates if gate["payload"] == "saved_model"]
    whole = {gate["metric"]: gate for gate in served if not gate["slice"] and gate["value"] is not None}
    auc = whole["auc"]
    return {"auc": round(auc["value"], 5), "accuracy": round(whole["binary_accuracy"]["value"], 5), "rows": auc["n"]}


def _steps(config: Mapping[str, Any], answer: Mapping[str, Any]) -> int:
    """Training steps, by the epochs that the trainer counted."""
    steps = config["model"]["hyperparameters"].get("steps")
    (note,) = (node["note"] for node in answer["nodes"] if node["node"] == "Trainer")
    epochs = int((_TRAINED.search(note) or ["", "1"])[1])
    batches = -(-answer["data_decision"]["rows"]["train"] // config["training"]["global_batch_size"])
    return int(steps or epochs * batches)


if __name__ == "__main__":
    main()
