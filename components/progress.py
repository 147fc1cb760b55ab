"""How far a node is: counted where the work is done, read by whoever watches. Imports nothing but the standard library.

A node's process calls `begin` and `advance`; both cost next to nothing. Where somebody watches (`report_to`), a small JSON
file is replaced a few times a second; elsewhere, under TFX's own runner or in a container, a line goes to the log every
half minute.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CHANNEL_SUFFIX",
    "Progress",
    "advance",
    "begin",
    "channel",
    "counted",
    "end",
    "note",
    "pass_on",
    "read",
    "report_to",
]

CHANNEL_SUFFIX = ".progress"
"""Of the file to which a node reports, beside its log."""

_WRITE_EVERY_S = 0.25
_LOG_EVERY_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a node is.

    Attributes:
        unit: what is counted: `rows`, `steps`.
        done: so many of them.
        total: that there are; None where nobody knows.
        seconds: since counting began.
        phase: what is being done, in words: `epoch 3/20`; "" where there is one thing to do.
        figures: what else is worth watching, by name.
        may_end_early: whether `total` is only the most that there can be.
        estimated: whether `total` is only about right.
        at: when this was written, in seconds since the epoch.
        first, first_s: what was done, and when, at the first count, which often took a warm-up.
    """

    unit: str
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    phase: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    may_end_early: bool = False
    estimated: bool = False
    at: float = 0.0
    first: int = 0
    first_s: float = 0.0

    @property
    def per_second(self) -> float | None:
        """The mean rate; None before anything is done."""
        return self.done / self.seconds if self.done and self.seconds > 0 else None

    @property
    def pace(self) -> float | None:
        """The rate after the first count; None before the second one."""
        done, seconds = self.done - self.first, self.seconds - self.first_s
        return done / seconds if done > 0 and seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """How long it will take from now at its pace; None where that or the total is not known, or the total is passed."""
        rate = self.pace
        if rate is None or self.total is None or self.done > self.total:
            return None
        return (self.total - self.done) / rate

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        rate = self.per_second
        return {
            "unit": self.unit,
            "done": self.done,
            "seconds": round(self.seconds, 3),
            "per_second": None if rate is None else round(rate, 1),
        }


class _Counter:
    """What this process counts; a process does one node at a time."""

    def __init__(self) -> None:
        self.channel: Path | None = None
        self.unit = ""
        self.reset("", None, phase="", may_end_early=False, estimated=False)

    def reset(self, unit: str, total: int | None, *, phase: str, may_end_early: bool, estimated: bool) -> None:
        self.unit, self.total, self.phase = unit, total, phase
        self.may_end_early, self.estimated = may_end_early, estimated
        self.done = self.first = 0
        self.first_s = 0.0
        self.figures: dict[str, float] = {}
        self.began = self.told = time.monotonic()

    def snapshot(self) -> Progress:
        return Progress(
            unit=self.unit,
            done=self.done,
            total=self.total,
            seconds=time.monotonic() - self.began,
            phase=self.phase,
            figures=self.figures,
            may_end_early=self.may_end_early,
            estimated=self.estimated,
            at=time.time(),
            first=self.first,
            first_s=self.first_s,
        )

    def tell(self) -> None:
        self.told = time.monotonic()
        if self.channel is None:
            found = self.snapshot()
            total = f" of {'about ' * found.estimated}{found.total}" if found.total else ""
            _log.info("%d%s %s, %.1f a second", found.done, total, found.unit, found.per_second or 0.0)
        else:
            _write(self.channel, self.snapshot())


_counter = _Counter()


def report_to(channel: Path | None) -> None:
    """Says where this process reports to; None for its log. What was counted before is forgotten."""
    _counter.channel = channel
    _counter.reset("", None, phase="", may_end_early=False, estimated=False)


def channel() -> Path | None:
    """Where this process reports to; None for its log."""
    return _counter.channel


def begin(
    unit: str, total: int | None = None, *, phase: str = "", may_end_early: bool = False, estimated: bool = False
) -> None:
    """Begins to count, from nothing.

    Args:
        unit: what is counted, in the plural.
        total: how many there are; None or 0 where nobody knows.
        phase: what is being done, in words.
        may_end_early: whether the work may end before the total is reached.
        estimated: whether the total is only about right.
    """
    _counter.reset(unit, total or None, phase=phase, may_end_early=may_end_early, estimated=estimated)


def advance(count: int, *, phase: str = "", figures: Mapping[str, float] | None = None) -> None:
    """Notes that so many more are done.

    Args:
        count: how many.
        phase: what is being done now; "" for what was said last.
        figures: what else is worth watching; None for what was said last.
    """
    _counter.done += count
    if count and not _counter.first:
        _counter.first, _counter.first_s = count, time.monotonic() - _counter.began
    _counter.phase = phase or _counter.phase
    _counter.figures = dict(figures) if figures else _counter.figures
    pause = _LOG_EVERY_S if _counter.channel is None else _WRITE_EVERY_S
    if time.monotonic() - _counter.told >= pause:
        _counter.tell()


def counted() -> Progress | None:
    """What this process has counted so far; None where it counted nothing."""
    return _counter.snapshot() if _counter.done else None


def end() -> None:
    """Tells what was done in all, where somebody watches and anything was counted."""
    if _counter.channel is not None and _counter.done:
        _counter.tell()


def pass_on(found: Progress) -> None:
    """Reports what another process has counted, which this one waits for."""
    if _counter.channel is not None:
        _write(_counter.channel, found)
    elif time.monotonic() - _counter.told >= _LOG_EVERY_S:
        _counter.told = time.monotonic()
        _log.info("%s: %d of %s %s", found.phase, found.done, found.total, found.unit)


def note(words: str) -> None:
    """Reports what is being waited for, in words: nothing is counted yet."""
    pass_on(Progress(unit="steps", phase=words, at=time.time()))


def read(channel: Path) -> Progress | None:
    """The newest report; None where there is none, or no whole one."""
    try:
        return Progress(**json.loads(channel.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(channel: Path, progress: Progress) -> None:
    """Replaces the file; that it cannot be written is no reason for the work to fail."""
    half = channel.with_suffix(".half")
    with contextlib.suppress(OSError):
        half.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        os.replace(half, channel)
