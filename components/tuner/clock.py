"""The time of a search and of each of its trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from schemas.config import TuneConfig, seconds_of

__all__ = ["Clock"]


@dataclass
class Clock:
    """What is left of the limits that the configuration sets.

    Attributes:
        tune: its section.
        before_s: that the search took before it was cut off.
        now: seconds since some moment.
    """

    tune: TuneConfig
    before_s: float = 0.0
    now: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        """Begins."""
        self._began = self.now()

    @property
    def run_s(self) -> float:
        """Seconds since the search was last begun."""
        return self.now() - self._began

    @property
    def spent_s(self) -> float:
        """Seconds that the search took, those before it was cut off among them."""
        return self.before_s + self.run_s

    @property
    def trial_s(self) -> float:
        """Seconds that a trial may take; infinite without a limit."""
        return _seconds(self.tune.trial_timeout)

    @property
    def left_s(self) -> float:
        """Seconds that the search may still take; infinite without a limit."""
        return _seconds(self.tune.timeout) - self.spent_s

    @property
    def is_over(self) -> bool:
        """Whether the search has had its time."""
        return self.left_s <= 0

    def is_late(self, began: float) -> bool:
        """Whether a trial that began then has had its time."""
        return self.now() - began >= self.trial_s

    def patience_s(self, began: Iterable[float]) -> float:
        """Seconds until some time is over; infinite where none ever is.

        Args:
            began: when the trials that are trained began.
        """
        now = self.now()
        return min([self.left_s, *(one + self.trial_s - now for one in began)])


def _seconds(limit: str | None) -> float:
    return math.inf if limit is None else float(seconds_of(limit))
