"""What a search for hyperparameters did: the record that the Tuner leaves of every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, JsonValue

__all__ = ["STATES", "TRIALS_FILE", "Search", "Trial", "TrialState", "Violation", "plain", "ranked"]

TRIALS_FILE = "trials.json"
"""In the Tuner's TunerResults."""

TrialState = Literal["complete", "pruned", "infeasible", "timed_out", "failed"]
STATES: tuple[TrialState, ...] = get_args(TrialState)
"""In the order in which they rank."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Violation(_Record):
    """A gate that a trial does not meet.

    Attributes:
        gate: its path in the configuration (`gates.satisfy.0`).
        metric: what it limits.
        value: of the trial.
        limit: that the value was held against.
        upper: whether the limit is a maximum.
        unit: of both; `1` for a pure number.
    """

    gate: str
    metric: str
    value: float
    limit: float
    upper: bool
    unit: str = "1"

    @property
    def excess(self) -> float:
        """By how much the value is on the wrong side, in the unit."""
        return self.value - self.limit if self.upper else self.limit - self.value

    @property
    def share(self) -> float:
        """The excess as a share of the limit, so that limits in different units can be compared."""
        return self.excess / max(abs(self.limit), 1e-9)

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        side = "at most" if self.upper else "at least"
        over = "over" if self.upper else "short"
        limit = f"{plain(self.limit)}{unit} allowed by {self.gate}"
        return f"{self.metric} {plain(self.value)}{unit}, {side} {limit}: {plain(self.excess, 3)}{unit} {over}"


class Trial(_Record):
    """One set of hyperparameters, and what came of it.

    Attributes:
        number: counted from 0, in the order in which trials began.
        values: of the hyperparameters that are searched for.
        objective: on the `validate` split, of the weights that would be kept; None where none was trained.
        epochs: that were trained.
        state: `complete`; `pruned` where others were better after as many epochs; `infeasible` where a gate is not met;
            `timed_out` where its time, or that of the search, was over; `failed`.
        reason: of a state other than `complete`.
        seconds: of its training.
        digest: SHA-256 of the sections `model` and `training` with its hyperparameters.
        figures: what is known of it, by name: `parameters`, the model's metrics on `validate`, and what was measured of its
            payload.
        violations: of gates.
        attempts: how often it was begun; more than once where its process was killed, or where it was ended early and none of
            those that were better could ship.
    """

    number: int
    values: dict[str, JsonValue]
    objective: float | None = None
    epochs: int = 0
    state: TrialState
    reason: str = ""
    seconds: float = 0.0
    digest: str
    figures: dict[str, float] = {}
    violations: tuple[Violation, ...] = ()
    attempts: int = 1


class Search(_Record):
    """A whole search.

    Attributes:
        objective: name of the metric.
        better: which way it is better.
        best: number of the winner.
        trials: in the order of their numbers.
        parallel: processes at once.
        threads: of each.
        seconds: of the whole, since it was last begun.
        resumed: trials that were done before that.
        searcher: what proposed the trials, with its version.
        notes: what a reader should know: gates that no trial can be held against.
    """

    objective: str
    better: Literal["min", "max"]
    best: int | None = None
    trials: tuple[Trial, ...] = ()
    parallel: int = 1
    threads: int = 0
    seconds: float = 0.0
    resumed: int = 0
    searcher: str = ""
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Trial | None:
        """The trial whose hyperparameters are trained with; None where there is none."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def leaderboard(self) -> list[Trial]:
        """The winner first, then the others as they rank."""
        rest = [trial for trial in ranked(self.trials, self.better) if trial.number != self.best]
        return [*([self.winner] if self.winner else []), *rest]

    @property
    def summary(self) -> str:
        """A few words on all trials."""
        counts = Counter(trial.state for trial in self.trials)
        states = ", ".join(f"{counts[state]} {state.replace('_', ' ')}" for state in STATES if counts[state])
        winner = self.winner
        best = (
            f"; best {self.objective} {winner.objective:.4g} (trial {winner.number})"
            if winner and winner.objective is not None
            else ""
        )
        return f"{len(self.trials)} trials: {states}{best}"


def plain(value: float, digits: int = 4) -> str:
    """A figure without an exponent where it is large: of so many digits, and from 1,000 on of as many as it has.

    >>> plain(22570.0), plain(0.35751), plain(1e-5, 3)
    ('22,570', '0.3575', '1e-05')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def ranked(trials: Sequence[Trial], better: Literal["min", "max"]) -> list[Trial]:
    """Trials with the best first: those that are complete by their objective, then the others by state.

    A pruned trial stands behind every complete one, since its objective is that of fewer epochs. Equal ones keep their order.
    """
    sign = -1 if better == "max" else 1

    def place(trial: Trial) -> tuple[int, float, int]:
        value = float("inf") if trial.objective is None else sign * trial.objective
        return STATES.index(trial.state), value, trial.number

    return sorted(trials, key=place)
