"""How trials end, and a search without a winner, in words. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from schemas.errors import NoTrialWonError, shorten
from schemas.tuning import Trial

__all__ = ["best_told", "died", "epochs_told", "too_long", "undefined", "without_winner"]

_SHOWN = 3


def without_winner(trials: Sequence[Trial]) -> NoTrialWonError:
    """Why there is no winner: which constraint is violated, and by how much in the trial that comes nearest."""
    near = [trial for trial in trials if trial.violations]
    if not near:
        return _none_trained(trials)
    nearest = min(near, key=lambda trial: (max(one.share for one in trial.violations), trial.number))
    broken = "; ".join(str(one) for one in sorted(nearest.violations, key=lambda one: -one.share)[:_SHOWN])
    count, early = len(near), sum(trial.state == "pruned" for trial in trials)
    others = f"; ended early, and not held against all limits: {early} more" if early else ""
    return NoTrialWonError(
        "training.tune",
        f"all {count} trials that were judged violate a gate; the nearest, trial {nearest.number}, has {broken}{others}",
        got=_values_told(nearest.values),
        remedy="Widen the space to smaller, faster or better models, or change the gate.",
    )


def _none_trained(trials: Sequence[Trial]) -> NoTrialWonError:
    """What is said where no trial came to its end, and none violates a gate: the reasons, the most frequent first."""
    reasons = Counter(trial.reason for trial in trials if trial.state in ("failed", "timed_out"))
    told = "; ".join(f"{count} of them: {shorten(one, 300)}" for one, count in reasons.most_common(_SHOWN))
    more = f"; and {len(reasons) - _SHOWN} other reasons" if len(reasons) > _SHOWN else ""
    late = any(trial.state == "timed_out" for trial in trials) or not trials
    remedies = [
        "Allow more time: training.tune.trial_timeout, training.tune.timeout." if late else "",
        "Correct build_model, or the space." if any(trial.state == "failed" for trial in trials) else "",
    ]
    return NoTrialWonError(
        "training.tune",
        f"none of {len(trials)} trials came to its end{f': {told}{more}' if told else ''}",
        remedy=" ".join(one for one in remedies if one),
    )


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
