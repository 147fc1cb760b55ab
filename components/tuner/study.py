"""Optuna behind the few calls that a search makes of it: a seeded TPE sampler, ASHA's rungs, a journal that needs no server.

Of a study that was cut off, the journal keeps every trial that ended, and what was heard of the others, which are begun
anew. Nothing is pickled. Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as State
from pydantic import JsonValue

from components.tuner.space import decoded, draw_of, encoded
from schemas.config import DimensionConfig
from schemas.tuning import Trial

__all__ = ["REDUCTION", "Asked", "Rules", "Study", "first_rung"]

REDUCTION = 3
"""Of the trials that come to a rung, one in so many goes on."""

_RECORD = "record"
_SPENT = "spent_s"
_DRAWS_TRIED = 50
"""So many sets in a row that were trained already end the search: what is left of the space is hardly ever drawn."""


def first_rung(epochs: int) -> int:
    """Epochs after which trials are first compared, a fifth of all; the next rung is three times that.

    Earlier the order tells of the learning rate alone: of 41 trials of the taxi model, up to 20 epochs each, the rank
    correlation of the best so far with the best of all was 0.33 after two epochs, and 0.61 after four.

    >>> first_rung(20), first_rung(4)
    (4, 1)
    """
    return max(1, epochs // 5)


@dataclass(frozen=True)
class Rules:
    """What a study goes by.

    Attributes:
        space: of the hyperparameters.
        better: which way the objective is better.
        seed: of the sampler.
        trials: that are to be trained.
        epochs: of one, at most.
        sampler: `tpe`, or `random` to have something to compare with.
        prunes: whether trials are compared before they end.
    """

    space: Mapping[str, DimensionConfig]
    better: Literal["min", "max"]
    seed: int
    trials: int
    epochs: int
    sampler: Literal["tpe", "random"] = "tpe"
    prunes: bool = True


@dataclass(frozen=True)
class Asked:
    """A trial to train.

    Attributes:
        number: of it.
        values: of the hyperparameters that are searched for.
    """

    number: int
    values: dict[str, JsonValue]


class _Rungs(optuna.pruners.BasePruner):
    """Asynchronous successive halving, in which a trial that a gate forbids ends no other.

    Who comes to a rung is held against those that were there before, the running ones among them, by the objective that they
    had there. A rung is reached exactly, since every epoch is reported.
    """

    def __init__(self, first: int) -> None:
        """Takes the epochs of the first rung."""
        self._first = first

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a trial ends here: it is not among the best third, nor the best of few."""
        step = trial.last_step
        if step is None or not self._is_rung(step):
            return False
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        there = sorted(
            sign * one.intermediate_values[step]
            for one in study.get_trials(deepcopy=False)
            if step in one.intermediate_values and (one.number == trial.number or not _is_infeasible(one))
        )
        return sign * trial.intermediate_values[step] > there[max(1, len(there) // REDUCTION) - 1]

    def _is_rung(self, step: int) -> bool:
        rung = self._first
        while rung < step:
            rung *= REDUCTION
        return rung == step


class Study:
    """The trials so far, and the next."""

    def __init__(self, file: Path, rules: Rules) -> None:
        """Opens a study, which may have been cut off.

        Args:
            file: the journal.
            rules: that it goes by; the same each time.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _mend(file)
        self._rules = rules
        self._open: dict[int, optuna.Trial] = {}
        self._heard: dict[int, int] = {}
        storage = JournalStorage(JournalFileBackend(str(file)))
        self._study = optuna.create_study(
            storage=storage,
            study_name="trials",
            load_if_exists=True,
            direction="maximize" if rules.better == "max" else "minimize",
            sampler=self._sampler(0),
            pruner=self._pruner(),
        )
        before = self._study.get_trials(deepcopy=False)
        self._study.sampler = self._sampler(len(before))  # a sampler that begins anew would draw what it drew before
        for one in before:
            if one.state == State.RUNNING:
                self._study.tell(one.number, state=State.FAIL)
                self._study.enqueue_trial(one.params)
        self._seen = {_text(trial.values) for trial in self.ended()}

    def _sampler(self, done: int) -> optuna.samplers.BaseSampler:
        seed = self._rules.seed + done
        if self._rules.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        startup = min(10, max(4, self._rules.trials // 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of constraints_func and constant_liar
            # The liar keeps those that are proposed while others run away from where those are.
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=startup, constraints_func=_excesses, constant_liar=True
            )

    def _pruner(self) -> optuna.pruners.BasePruner:
        if not self._rules.prunes:
            return optuna.pruners.NopPruner()
        return _Rungs(first_rung(self._rules.epochs))

    def begin_with(self, values: Mapping[str, JsonValue]) -> None:
        """Has the first trial take these values, as far as the space holds them; where no trial has begun."""
        if self._study.get_trials(deepcopy=False):
            return
        drawn = {name: encoded(one, values[name]) for name, one in self._rules.space.items() if name in values}
        known = {name: value for name, value in drawn.items() if value is not None}
        if known:
            self._study.enqueue_trial(known)

    def ask(self) -> Asked | None:
        """The next set of values that was not tried yet; None where none is found."""
        for _ in range(_DRAWS_TRIED):
            trial = self._study.ask()
            values = {name: decoded(one, self._draw(trial, name, one)) for name, one in self._rules.space.items()}
            if _text(values) not in self._seen:
                self._seen.add(_text(values))
                self._open[trial.number] = trial
                return Asked(trial.number, values)
            self._study.tell(trial, state=State.FAIL)
        return None

    @staticmethod
    def _draw(trial: optuna.Trial, name: str, dimension: DimensionConfig) -> str | float:
        draw = draw_of(dimension)
        if draw.kind == "choice":
            return str(trial.suggest_categorical(name, draw.choices))
        if draw.kind == "whole":
            return trial.suggest_int(name, int(draw.low), int(draw.high), log=draw.log)
        return trial.suggest_float(name, draw.low, draw.high, log=draw.log)

    def report(self, number: int, epochs: int, value: float) -> bool:
        """Notes the objective of a trial after some epochs; whether it goes on."""
        if epochs <= self._heard.get(number, 0):  # of an attempt whose process was killed
            return True
        self._heard[number] = epochs
        trial = self._open[number]
        trial.report(value, epochs)
        return not trial.should_prune()

    def finish(self, record: Trial) -> None:
        """Notes how a trial ended. To the sampler, one that a gate forbids is behind all others, the nearest first."""
        trial = self._open.pop(record.number)
        trial.set_user_attr(_RECORD, record.model_dump(mode="json"))
        if record.objective is not None and record.state == "complete":
            self._study.tell(trial, record.objective)
        else:
            self._study.tell(trial, state=State.FAIL if record.state == "failed" else State.PRUNED)

    def spend(self, seconds: float) -> None:
        """Notes how long the search took so far."""
        self._study.set_user_attr(_SPENT, round(seconds, 3))

    def spent_s(self) -> float:
        """Seconds that the search took before it was cut off; 0 where it begins."""
        return float(self._study.user_attrs.get(_SPENT, 0.0))

    def ended(self) -> list[Trial]:
        """The records of all that ended, in the order of their numbers."""
        told = [
            one.user_attrs.get(_RECORD) for one in self._study.get_trials(deepcopy=False) if one.state.is_finished()
        ]
        return [Trial.model_validate(one) for one in told if one is not None]


def _is_infeasible(trial: FrozenTrial) -> bool:
    record = trial.user_attrs.get(_RECORD)
    return record is not None and record["state"] == "infeasible"


def _excesses(trial: FrozenTrial) -> list[float]:
    """By how much a trial exceeds each limit that it does not meet, in shares of the limits; `[0]` where it meets all."""
    record = trial.user_attrs.get(_RECORD)
    return [one.share for one in Trial.model_validate(record).violations] if record and record["violations"] else [0.0]


def _text(values: Any) -> str:
    return json.dumps(values, sort_keys=True)


def _mend(file: Path) -> None:
    """Takes away what a kill may leave: half a line at the end, on which the journal would stumble, and its lock."""
    for lock in (Path(f"{file}.lock"), *file.parent.glob(f"{file.name}.lock*")):
        with contextlib.suppress(OSError):
            lock.unlink()
    if file.exists():
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            file.write_bytes(whole)
