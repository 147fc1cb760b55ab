"""A folder with a small real pipeline in it, and the command line called in this process, so that TFX is imported once."""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runners.cli import app

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command answered: its exit code, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def present() -> str:
    """The time, as `--at` takes it."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def satisfice(*arguments: str | os.PathLike[str]) -> Answer:
    """Calls the command line in this process, as `satisfice ARGUMENTS` would."""
    code = 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _descriptors_to(out.fileno(), err.fileno()):
            try:
                app([str(argument) for argument in arguments], prog_name="satisfice")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return Answer(code, *texts)


# Never closed: the log handlers of the libraries keep the stream that they met when they were imported.
_STREAMS = tuple(open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115


@contextlib.contextmanager
def _descriptors_to(out: int, err: int) -> Iterator[None]:
    """Sends descriptors 1 and 2 elsewhere, and Python's streams with them, whatever pytest has put in their place."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = _STREAMS
    try:
        yield
    finally:
        for stream in _STREAMS:
            stream.flush()
        sys.stdout, sys.stderr = streams
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for number in saved:
            os.close(number)


@dataclass(frozen=True)
class Bench:
    """A folder with `satisfice.yaml`, its data and its schema: the taxi pipeline on fewer rows."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "satisfice.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data.csv"

    @property
    def served(self) -> Path:
        return self.folder / "serving_models" / "taxi"

    def run(self, *overrides: str, options: tuple[str, ...] = ()) -> Answer:
        """`satisfice run --json` with overrides (`training.epochs=2`)."""
        pairs = [part for override in overrides for part in ("--set", override)]
        return satisfice("run", self.config, "--json", *pairs, *options)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the configuration file."""
        raw = yaml.safe_load(self.config.read_text())
        change(raw)
        self.config.write_text(yaml.safe_dump(raw, sort_keys=False))

    def rows(self, change: Callable[[list[dict[str, str]]], list[dict[str, str]] | None]) -> None:
        """Changes the rows of the data file; `change` alters the list, or returns another."""
        with self.data.open(newline="") as lines:
            reader = csv.DictReader(lines)
            names, rows = list(reader.fieldnames or []), list(reader)
        rows = change(rows) or rows
        with self.data.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def copy(self, folder: Path) -> Bench:
        """The same pipeline elsewhere, with nothing that has run."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("satisfice.yaml", "data.csv", "schema.pbtxt"):
            shutil.copy(self.folder / name, folder / name)
        return Bench(folder)


def taxi_bench(folder: Path, rows: int = 2000) -> Bench:
    """The taxi pipeline on the first rows of the real data, trained briefly, with gates that it meets; no `.tflite` files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (REPOSITORY / "data/taxi/data.csv").read_text().splitlines(keepends=True)
    (folder / "data.csv").write_text("".join(lines[: rows + 1]))
    shutil.copy(REPOSITORY / "schemas/taxi/schema.pbtxt", folder / "schema.pbtxt")
    raw = yaml.safe_load((REPOSITORY / "satisfice.yaml").read_text())
    raw["data"]["source"]["path"] = "data.csv"
    raw["data"]["schema"] = "schema.pbtxt"
    raw["training"] = {"global_batch_size": 64, "epochs": 4}
    raw["model"]["hyperparameters"]["learning_rate"] = 0.01
    del raw["export"], raw["push"]["edge"]
    raw["gates"] = {
        "optimize": {"metric": "auc", "at_least_champion_minus": 0.1},
        "satisfy": [
            {"metric": "auc", "min": 0.6},
            {"metric": "binary_accuracy", "slice_by": ["payment_type"], "min": 0.4, "min_examples": 50},
        ],
    }
    (folder / "satisfice.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return Bench(folder)
