"""How trials end, and a search without a winner, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from schemas.errors import NoTrialWonError, shorten
from schemas.tuning import Trial

__all__ = ["best_told", "died", "epochs_told", "grouped", "search_over", "too_long", "undefined", "without_winner"]

_SHOWN = 3
_NUMBERS_SHOWN = 12
_UNJUDGED = ("failed", "timed_out")


def without_winner(trials: Sequence[Trial]) -> NoTrialWonError:
    """Why there is no winner: which constraint is violated, and by how much in the trial that comes nearest; what else ended."""
    near = [trial for trial in trials if trial.violations]
    if not near:
        return _none_trained(trials)
    nearest = min(near, key=lambda trial: (max(one.share for one in trial.violations), trial.number))
    broken = "; ".join(str(one) for one in sorted(nearest.violations, key=lambda one: -one.share)[:_SHOWN])
    early = sum(trial.state == "pruned" for trial in trials)
    others = [
        f"ended early, and not held against all limits: {early} more" if early else "",
        _bounded([trial for trial in trials if not trial.violations and trial.state in _UNJUDGED]),
    ]
    judged = (
        f"all {len(near)} trials that were judged violate"
        if len(near) > 1
        else "the only trial that was judged violates"
    )
    return NoTrialWonError(
        "training.tune",
        f"{judged} a gate; the nearest, trial {nearest.number} with {_values_told(nearest.values)}, has "
        + "; ".join([broken, *filter(None, others)]),
        remedy=" ".join(
            ["Widen the space to smaller, faster or better models, or change the gate.", *_remedies(trials)]
        ),
    )


def _none_trained(trials: Sequence[Trial]) -> NoTrialWonError:
    told = _bounded(trials)
    return NoTrialWonError(
        "training.tune",
        f"none of {len(trials)} trials came to its end{f'; {told}' if told else ''}",
        remedy=" ".join(_remedies(trials) or ["Allow more time: training.tune.timeout."]),
    )


def _bounded(trials: Sequence[Trial]) -> str:
    told = [shorten(one, 300) for one in grouped([trial for trial in trials if trial.state in _UNJUDGED])]
    more = [f"and {len(told) - _SHOWN} other reasons"] if len(told) > _SHOWN else []
    return "; ".join([*told[:_SHOWN], *more])


def _remedies(trials: Sequence[Trial]) -> list[str]:
    states = {trial.state for trial in trials}
    return [
        *(["Correct build_model, or the space."] if "failed" in states else []),
        *(["Allow more time: training.tune.trial_timeout, training.tune.timeout."] if "timed_out" in states else []),
    ]


def grouped(trials: Iterable[Trial]) -> list[str]:
    """Why trials did not win, each reason once with the trials that it holds for, in their order."""
    found: dict[tuple[str, str], list[int]] = {}
    for trial in trials:
        if trial.reason:
            found.setdefault((trial.state.replace("_", " "), trial.reason), []).append(trial.number)
    return [f"{state}: {_numbers(numbers)}: {reason}" for (state, reason), numbers in found.items()]


def _numbers(numbers: Sequence[int]) -> str:
    """Trials by their numbers.

    >>> _numbers([3]), _numbers([3, 1])
    ('trial 3', 'trials 3, 1')
    """
    more = f" and {len(numbers) - _NUMBERS_SHOWN} more" if len(numbers) > _NUMBERS_SHOWN else ""
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NUMBERS_SHOWN]))}{more}"


def died(cause: str, times: int, epochs: int | None = None) -> str:
    """What is said of a trial whose process died.

    >>> died("killed by SIGKILL", 2, 3)
    'its process was killed by SIGKILL 2 times, the last time in epoch 4; this is how one ends that is out of memory'
    """
    when = "" if epochs is None else f", the last time in epoch {epochs + 1}"
    memory = "; this is how one ends that is out of memory" if "SIGKILL" in cause else ""
    return f"its process was {cause} {times} times{when}{memory}"


def too_long(epochs: int, limit: str | None) -> str:
    """What is said of a trial that took longer than `training.tune.trial_timeout`."""
    return f"it had trained {epochs_told(epochs)} when the {limit} of training.tune.trial_timeout were over"


def search_over(limit: str | None, epochs: int | None = None) -> str:
    """What is said of a trial that `training.tune.timeout` ended; without epochs, of one that had not begun again.

    >>> search_over("2h", 1)
    'the 2h of training.tune.timeout were over when it had trained 1 epoch'
    """
    when = "was to begin again" if epochs is None else f"had trained {epochs_told(epochs)}"
    return f"the {limit} of training.tune.timeout were over when it {when}"


def epochs_told(count: int) -> str:
    """Epochs in words.

    >>> epochs_told(1), epochs_told(0)
    ('1 epoch', 'no epoch')
    """
    return f"{count or 'no'} epoch{'s' if count > 1 else ''}"


def undefined(figures: Mapping[str, float], names: Iterable[str], epochs: int) -> str:
    """What is said of the first of some figures that is no finite number; empty where there is none.

    Args:
        figures: those that are no finite number.
        names: in question.
        epochs: that were trained.

    >>> undefined({"auc": float("nan")}, ["loss", "auc"], 2)
    'auc is nan after 2 epochs'
    """
    wrong = next((name for name in names if name in figures), None)
    return "" if wrong is None else f"{wrong} is {figures[wrong]} after {epochs_told(epochs)}"


def best_told(trial: Trial, objective: str) -> str:
    """The objective of a trial, its number and its values."""
    value = "" if trial.objective is None else f" {trial.objective:.4g}"
    return f"{objective}{value} (trial {trial.number}: {_values_told(trial.values)})"


def _values_told(values: Mapping[str, JsonValue]) -> str:
    """Values in a few words.

    >>> _values_told({"learning_rate": 0.00123456, "hidden_units": [64, 32]})
    'learning_rate 0.00123, hidden_units [64, 32]'
    """
    return ", ".join(
        f"{name} {f'{one:.3g}' if isinstance(one, float) else json.dumps(one)}" for name, one in values.items()
    )
