"""The search for hyperparameters on the taxi model, into `RESULTS.md`: trials at once against one by one, and against chance.

    python -m bench.tuner [--trials 20] [--turns 3] [--seeds 8] [--no-write]

A turn, with a seed of its own, searches with as many processes as there are processors, and with one. For each seed chance has
the same processes and the same epochs over all trials: sets are drawn at random, none is ended before it ends by itself, and
what trains when the epochs are spent ends there and may win. All begin with the hyperparameters of `satisfice.yaml`. What each
finds is trained by the pipeline and judged on `eval`, which no search has seen.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

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
        seconds: of a search, by its name; one by one only where the time was measured.
        epochs: that it trained.
        trials: that came to an end of some kind.
        found: on `validate`, of what it found.
        auc: on `eval`, of the same.
    """

    seed: int
    seconds: dict[str, float]
    epochs: dict[str, int]
    trials: dict[str, int]
    found: dict[str, float]
    auc: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """Of the time, parallel over one by one; None where that was not measured."""
        return self.seconds[_OURS] / self.seconds[_SERIAL] if _SERIAL in self.seconds else None

    @property
    def difference(self) -> float:
        """Of the AUC on `eval`, ours less that of chance."""
        return self.auc[_OURS] - self.auc[_RANDOM]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the turns, or is the process of one search."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuner", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3, help="seeds with which the time is measured, too")
    parser.add_argument("--seeds", type=int, default=8, help="at least two")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(_search(json.loads(options.job))))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-tuner-") as folder:
        place = _Place(Path(folder), options.trials)
        place.run("default", {})
        turns = [_turn(place, seed, timed=seed < options.turns) for seed in range(max(options.turns, options.seeds))]
    said = f"--trials {options.trials} --turns {options.turns} --seeds {options.seeds}"
    text = section(turns, options.trials, machine(), f"python -m bench.tuner {said}")
    print(text)
    if not options.no_write:
        write_section("tuner", text)
    return 0


def _turn(place: _Place, seed: int, *, timed: bool) -> Turn:
    found: dict[str, dict[str, Any]] = {}
    both = (_OURS, _SERIAL) if seed % 2 == 0 else (_SERIAL, _OURS)
    for name in both if timed else (_OURS,):
        found[name] = place.search(name, seed)
    found[_RANDOM] = place.search(_RANDOM, seed, most_epochs=found[_OURS]["epochs"])
    auc = {name: place.run(f"{name} {seed}", {"model.hyperparameters": found[name]["values"], "training.seed": seed})
           for name in (_OURS, _RANDOM)}  # fmt: skip
    turn = Turn(
        seed,
        {name: one["seconds"] for name, one in found.items()},
        {name: one["epochs"] for name, one in found.items()},
        {name: one["trials"] for name, one in found.items()},
        {name: one["found"] for name, one in found.items()},
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
        "found": winner.objective,
        "values": {**config.model.hyperparameters, **winner.values},
    }


def _only(folder: Path) -> Path:
    (found,) = (one for one in folder.iterdir() if one.name.isdigit())
    return found


def section(turns: Sequence[Turn], trials: int, where: str, command: str) -> str:
    """What RESULTS.md says.

    Args:
        turns: at least two, and one with a time.
        trials: of a search.
        where: machine and date.
        command: that measured it.
    """
    timed = [(turn, turn.ratio) for turn in turns if turn.ratio is not None]
    times = [
        [
            str(turn.seed),
            f"{turn.seconds[_OURS]:.1f}",
            f"{turn.seconds[_SERIAL]:.1f}",
            f"**{ratio:.2f}**",
            f"{turn.epochs[_OURS]:,} / {turn.epochs[_SERIAL]:,}",
        ]
        for turn, ratio in timed
    ]
    found = [
        [
            str(turn.seed),
            f"{turn.trials[_OURS]}, {turn.epochs[_OURS]:,}",
            f"{turn.trials[_RANDOM]}, {turn.epochs[_RANDOM]:,}",
            *(f"{turn.found[name]:.4f}" for name in (_OURS, _RANDOM)),
            *(f"{turn.auc[name]:.4f}" for name in (_OURS, _RANDOM)),
            f"{turn.difference:+.4f}",
        ]
        for turn in turns
    ]
    of_time = ["seed", "at once, s", "one by one, s", "ratio", "epochs of the two"]
    of_found = ["seed", "ours: trials, epochs", "random: trials, epochs", "validate, ours", "validate, random",
                "eval, ours", "eval, random", "difference"]  # fmt: skip
    ratio = statistics.median(ratio for _, ratio in timed)
    return (
        "## The search for hyperparameters\n\n"
        f"{trials} trials of the taxi model over the space of `satisfice.yaml`, imports and reading of the rows included; each\n"
        "search in a process of its own, in turns.\n\n"
        f"{table(of_time, times)}\n\n"
        f"Time, at once over one by one: median **{ratio:.2f}** (target: 0.7).\n\n"
        "Random search has the same processes and the same epochs over all its trials, and ends none of them early but for\n"
        "what still trains when they are spent. What was found is trained by the pipeline and judged on `eval`. AUC:\n\n"
        f"{table(of_found, found)}\n\n"
        f"{_compared(turns)}\n\n"
        f"{where}. `{command}`"
    )


def _compared(turns: Sequence[Turn]) -> str:
    """The means, and what the paired differences tell."""
    ours, chance = (statistics.fmean(turn.auc[name] for turn in turns) for name in (_OURS, _RANDOM))
    differences = [turn.difference for turn in turns]
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    half = float(stats.t.ppf(0.975, len(turns) - 1)) * spread / math.sqrt(len(turns))
    above = sum(one >= 0 for one in differences)
    if mean - half > 0:
        verdict = "above that of chance"
    else:
        verdict = "below that of chance" if mean + half < 0 else "not to be told from that of chance"
    return (
        f"Mean AUC on `eval`: ours **{ours:.4f}**, random **{chance:.4f}** (target: not below). Difference, paired by seed:\n"
        f"**{mean:+.4f}**, 95 % interval {mean - half:+.4f} to {mean + half:+.4f}, standard deviation {spread:.4f}, not below\n"
        f"with {above} of {len(turns)} seeds: {verdict}."
    )


if __name__ == "__main__":
    sys.exit(main())
