"""The search for hyperparameters on the taxi model, into `RESULTS.md`: trials at once against one by one, and against chance.

    python -m bench.tuner [--trials 20] [--turns 3] [--no-write]

A turn, with a seed of its own, searches with as many processes as there are processors, then with one, and then at random:
no trial is ended before it ends by itself, until as many epochs are spent. All begin with the hyperparameters of
`satisfice.yaml`. What each finds, but for the one process, is trained by the pipeline and judged on `eval`, which no search
has seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.process import REPOSITORY
from bench.results import machine, table, write_section

__all__ = ["Turn", "main", "section"]

_OURS, _SERIAL, _RANDOM = "parallel", "one by one", "random"
_GATES = {"optimize": {"metric": "auc", "at_least_champion_minus": 1.0}}
_LIMIT_S = 900


@dataclass(frozen=True)
class Turn:
    """What one seed gave.

    Attributes:
        seed: of the search and of the training.
        seconds: of a search, by its name.
        epochs: that it trained.
        trials: that came to an end of some kind.
        auc: on `eval`, of what it found.
    """

    seed: int
    seconds: dict[str, float]
    epochs: dict[str, int]
    trials: dict[str, int]
    auc: dict[str, float]

    @property
    def ratio(self) -> float:
        """Of the time, parallel over one by one."""
        return self.seconds[_OURS] / self.seconds[_SERIAL]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the turns, or is the process of one search."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuner", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(_search(json.loads(options.job))))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-tuner-") as folder:
        place = _Place(Path(folder), options.trials)
        place.run("default", {})
        turns = [_turn(place, seed) for seed in range(options.turns)]
    text = section(
        turns, options.trials, machine(), f"python -m bench.tuner --trials {options.trials} --turns {options.turns}"
    )
    print(text)
    if not options.no_write:
        write_section("tuner", text)
    return 0


def _turn(place: _Place, seed: int) -> Turn:
    found: dict[str, dict[str, Any]] = {}
    for name in (_OURS, _SERIAL) if seed % 2 == 0 else (_SERIAL, _OURS):
        found[name] = place.search(name, seed)
    found[_RANDOM] = place.search(_RANDOM, seed, most_epochs=found[_OURS]["epochs"])
    auc = {name: place.run(f"{name} {seed}", {"model.hyperparameters": found[name]["values"], "training.seed": seed})
           for name in (_OURS, _RANDOM)}  # fmt: skip
    turn = Turn(
        seed,
        {name: one["seconds"] for name, one in found.items()},
        {name: one["epochs"] for name, one in found.items()},
        {name: one["trials"] for name, one in found.items()},
        auc,
    )
    print(turn, flush=True)
    return turn


@dataclass(frozen=True)
class _Place:
    """A folder with one pipeline root, whose data are prepared once."""

    folder: Path
    trials: int

    def run(self, name: str, values: dict[str, Any]) -> float:
        """The AUC on `eval` of the pipeline with some values of the configuration."""
        said = {
            "metadata": {"sqlite": {"path": str(self.folder / "metadata.db")}},
            "push": {"serving": {"base_path": str(self.folder / "serving")}},
            "gates": _GATES,
            "export.tflite": None,
            **values,
        }
        pairs = [word for key, value in said.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        command = [
            sys.executable,
            "-m",
            "runners.cli",
            "run",
            "satisfice.yaml",
            "--json",
            "--root",
            str(self.folder / "root"),
        ]
        answer = _answer([*command, *pairs], name)
        gates = answer["decision"]["gates"]
        return float(next(gate["value"] for gate in gates if gate["metric"] == "auc"))

    def search(self, name: str, seed: int, most_epochs: int | None = None) -> dict[str, Any]:
        """What one search found, in a process of its own."""
        job = {
            "folder": str(self.folder / f"{name} {seed}"),
            "root": str(self.folder / "root"),
            "seed": seed,
            # random search ends by its epochs
            "trials": self.trials if name != _RANDOM else 10 * self.trials,
            "parallel": 1 if name == _SERIAL else "auto",
            "sampler": "random" if name == _RANDOM else "tpe",
            "most_epochs": most_epochs,
        }
        return _answer([sys.executable, "-m", "bench.tuner", "--job", json.dumps(job)], name)


def _answer(command: list[str], name: str) -> dict[str, Any]:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    begin = done.stdout.find("{")
    if done.returncode not in (0, 3) or begin < 0:
        raise RuntimeError(f"{name} failed with {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout[begin:])
    return found


def _search(job: dict[str, Any]) -> dict[str, Any]:
    """Searches among the prepared rows; of the gates none counts, so that nothing but the search is measured."""
    from components.trainer.strategy import find_machine
    from components.tuner.search import Files, Sections, places_for, search
    from schemas.config import GatesConfig
    from schemas.load import load_config

    trials = f"training.tune.trials={job['trials']}"
    said = [trials, f"training.tune.parallel={job['parallel']}", f"training.seed={job['seed']}"]
    config = load_config(REPOSITORY / "satisfice.yaml", said).config
    sections = Sections(config.model, config.training, GatesConfig.model_validate_json(json.dumps(_GATES)))
    root = Path(job["root"])
    files = Files(_only(root / "ExampleGen" / "examples"), _only(root / "Transform" / "transform_graph"),
                  Path(config.data.schema_path), sys.path)  # fmt: skip
    began = time.monotonic()
    found = search(
        sections,
        files,
        places_for(sections.tune, find_machine()),
        Path(job["folder"]),
        Path(job["folder"]),
        sampler=job["sampler"],
        prunes=job["sampler"] != "random",
        most_epochs=job["most_epochs"],
    )
    winner = found.winner
    assert winner is not None
    return {
        "seconds": round(time.monotonic() - began, 2),
        "epochs": sum(trial.epochs for trial in found.trials),
        "trials": len(found.trials),
        "values": {**config.model.hyperparameters, **winner.values},
    }


def _only(folder: Path) -> Path:
    (found,) = (one for one in folder.iterdir() if one.name.isdigit())
    return found


def section(turns: Sequence[Turn], trials: int, where: str, command: str) -> str:
    """What RESULTS.md says.

    Args:
        turns: at least one.
        trials: of a search.
        where: machine and date.
        command: that measured it.
    """
    rows = [
        [
            str(turn.seed),
            f"{turn.seconds[_OURS]:.1f}",
            f"{turn.seconds[_SERIAL]:.1f}",
            f"**{turn.ratio:.2f}**",
            f"{turn.epochs[_OURS]:,} / {turn.epochs[_SERIAL]:,}",
            f"{turn.trials[_RANDOM]}, {turn.epochs[_RANDOM]:,}",
            f"{turn.auc[_OURS]:.4f}",
            f"{turn.auc[_RANDOM]:.4f}",
        ]
        for turn in turns
    ]
    head = [
        "seed",
        "at once, s",
        "one by one, s",
        "ratio",
        "epochs of the two",
        "random: trials, epochs",
        "AUC on eval, ours",
        "AUC on eval, random",
    ]
    ours, chance = (statistics.fmean(turn.auc[name] for turn in turns) for name in (_OURS, _RANDOM))
    ratio = statistics.median(turn.ratio for turn in turns)
    return (
        "## The search for hyperparameters\n\n"
        f"{trials} trials of the taxi model over the space of `satisfice.yaml`, imports and reading of the rows included; each\n"
        "search in a process of its own, in turns. Random search has the same processes and as many epochs, and ends none of its\n"
        "trials early. What was found is trained by the pipeline and judged on `eval`.\n\n"
        f"{table(head, rows)}\n\n"
        f"Time, at once over one by one: median **{ratio:.2f}** (target: 0.7). Mean AUC: ours **{ours:.4f}**, random\n"
        f"**{chance:.4f}** (target: not below).\n\n"
        f"{where}. `{command}`"
    )


if __name__ == "__main__":
    sys.exit(main())
