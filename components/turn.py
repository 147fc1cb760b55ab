"""A node that was begun early, to get ready beside others, waits here until it is its turn to have the machine.

Only the local engine begins a node early; elsewhere nobody tells of turns, and it is always one's turn. Imports nothing but
the standard library.
"""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["TURN_SUFFIX", "given_by", "has_come", "wait"]

TURN_SUFFIX = ".turn"
"""Of the file that tells a node of its turn, beside its log."""

_LOOK_EVERY_S = 0.01

_told: list[Path] = []


def given_by(file: Path | None) -> None:
    """Names the file whose existence means that it is this process's turn; None: it always is."""
    _told[:] = [file] if file else []


def has_come() -> bool:
    """Whether it is this process's turn."""
    return all(file.exists() for file in _told)


def wait() -> None:
    """Until it is this process's turn. Whoever gives turns ends this process where there will be none."""
    while not has_come():
        time.sleep(_LOOK_EVERY_S)
