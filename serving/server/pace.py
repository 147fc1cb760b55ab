"""Which answers are so quick that the event loop gives them itself: handing one to a thread costs more than it takes."""

from __future__ import annotations

__all__ = ["QUICK_S", "SLOW_S", "Pace", "Paces"]

QUICK_S = 0.0003
"""CPU time below which an answer is quick: about what two changes of thread cost beside Python's lock."""
SLOW_S = 0.003
"""Wall time from which on an answer has kept the event loop from others for too long."""
_PROVEN = 16
_BEST = 2 * _PROVEN
_SETBACK = 6
_BANNED = -500
_MAX_KINDS = 512


class Pace:
    """Whether answers of one kind belong into the event loop.

    They begin in a thread; after sixteen quick ones in a row they move over, and go back for long once one in seven turns
    out to be slow there. A single slow one may be the machine's doing.
    """

    def __init__(self) -> None:
        self._score = 0

    @property
    def quick(self) -> bool:
        """Whether the event loop gives the next answer."""
        return self._score >= _PROVEN

    def took_in_thread(self, cpu_s: float) -> None:
        """Notes the CPU time of an answer that a thread gave: its wall time tells more of the other threads."""
        self._score = self._score + 1 if cpu_s < QUICK_S else min(self._score, 0)
        if self._score >= _PROVEN:
            self._score = _BEST

    def took_in_loop(self, wall_s: float) -> None:
        """Notes how long an answer kept the event loop."""
        self._score = min(self._score + 1, _BEST) if wall_s < SLOW_S else self._score - _SETBACK
        if self._score < _PROVEN:
            self._score = _BANNED


class Paces:
    """The pace of each kind of request; forgotten when the versions that are served change."""

    def __init__(self) -> None:
        self._paces: dict[tuple[str, int], Pace] = {}
        self._revision = 0

    def of(self, path: str, size: int, revision: int) -> Pace:
        """The pace of requests with this path and about as many bytes."""
        if revision != self._revision or len(self._paces) >= _MAX_KINDS:
            self._paces.clear()
            self._revision = revision
        return self._paces.setdefault((path, size.bit_length()), Pace())
