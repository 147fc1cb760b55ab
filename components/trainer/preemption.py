"""SIGTERM, as Kubernetes sends it before it takes a machine away: heard at once, obeyed at the next boundary of steps.

A step cannot be broken off, and the workers of a synchronous cluster have to stop after the same one: reading the state
takes all of them. Whoever hears the signal writes down, in the folder that all of them share, at which boundary to stop:
the next but one. No other worker can have passed it, because none finishes a step before all have begun it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["Preemption", "listening"]

_FILE = "stop"


class Preemption:
    """Whether this process has to go, and when.

    Attributes:
        heard: whether SIGTERM has come.
    """

    def __init__(self, shared: Path | None = None) -> None:
        """Take the folder that the workers of a cluster share; None where this process trains alone.

        A word that was left there by an attempt before this one goes: each worker removes it before its first step, and
        nobody can leave a new one before all have begun theirs.
        """
        self.heard = False
        self._file = shared / _FILE if shared else None
        self._boundaries = 0
        if self._file:
            self._file.unlink(missing_ok=True)

    def is_due(self) -> bool:
        """Whether to stop now; ask it once at each boundary, in all workers alike."""
        self._boundaries += 1
        if self._file is None:
            return self.heard
        agreed = _agreed(self._file)
        if self.heard and agreed is None:
            agreed = self._boundaries + 1
            self._file.parent.mkdir(parents=True, exist_ok=True)
            half = self._file.with_suffix(f".{os.getpid()}")
            half.write_text(str(agreed), encoding="ascii")
            os.replace(half, self._file)
        return agreed is not None and self._boundaries >= agreed

    def leave(self) -> NoReturn:
        """Ends this process as SIGTERM would have ended it."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)  # not reached where the signal is delivered to this thread


def _agreed(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def listening(shared: Path | None = None) -> Iterator[Preemption]:
    """Hears SIGTERM while the block runs; before and after, it ends the process as it always does.

    Args:
        shared: see `Preemption`.
    """
    found = Preemption(shared)

    def hear(_: int, __: FrameType | None) -> None:
        found.heard = True

    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield found
        return
    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield found
    finally:
        signal.signal(signal.SIGTERM, before)
        if found.heard:
            found.leave()
