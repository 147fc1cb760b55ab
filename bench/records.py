"""Measurements as JSON lines, so that a long benchmark can be stopped at any moment and go on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.process import REPOSITORY
from bench.results import machine

__all__ = ["FILE", "Record", "append", "done", "latest", "load", "new_session"]

FILE = REPOSITORY / "bench" / "work" / "measurements.jsonl"
_SCRIPTS = ("bare", "data", "ours", "stepped", "stock_tfx")
_MEASURED = (
    *("schemas", "serving", "components", "pipeline", "runners", "uv.lock", "satisfice.yaml"),
    *(f"bench/{name}.py" for name in _SCRIPTS),
)


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        benchmark: `compare`, `ingest`, `payload`, `scale` or `rerun`.
        contender: who was measured, in which mode.
        rows: in the data.
        turn: from 0; the contenders of one turn ran one after another.
        session: what was measured: records of one session are comparable.
        measured: figures; empty where it failed.
        error: why it failed, or "".
        machine: where and when.
    """

    benchmark: str
    contender: str
    rows: int
    turn: int
    session: str
    measured: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    machine: str = field(default_factory=machine)

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        """What a later attempt at the same measurement has in common with it."""
        return self.benchmark, self.contender, self.rows, self.turn, self.session


def append(record: Record, file: Path = FILE) -> None:
    """Adds a line, which is on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torn = file.is_file() and not file.read_bytes().endswith(b"\n")
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" * torn + json.dumps(asdict(record)) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def load(file: Path = FILE) -> list[Record]:
    """All records in order; a line that was cut off by a kill is left out."""
    if not file.is_file():
        return []
    records = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            records.append(Record(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return records


def done(records: Iterable[Record]) -> dict[tuple[str, str, int, int, str], Record]:
    """The newest successful record of each measurement."""
    return {record.key: record for record in records if not record.error}


def latest(records: Iterable[Record], benchmark: str, session: str = "") -> list[Record]:
    """Of each number of rows the newest session of a benchmark, or the one that is named where it has any.

    Each measurement stands once, the newest; a failure only where nothing has succeeded.
    """
    mine = [record for record in records if record.benchmark == benchmark]
    newest = {record.rows: record.session for record in mine}
    newest |= {record.rows: session for record in mine if record.session == session}
    chosen: dict[tuple[str, str, int, int, str], Record] = {}
    for record in mine:
        if record.session == newest[record.rows] and not (record.error and record.key in chosen):
            chosen[record.key] = record
    return list(chosen.values())


def new_session() -> str:
    """A name that follows from the code that is measured: a benchmark goes on only where that has not changed."""
    digest = hashlib.sha256()
    for name in _MEASURED:
        path = REPOSITORY / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:10]
