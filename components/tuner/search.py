"""The search: hands trials out to workers, ends the bad ones, and finds the best that the gates would let pass.

What is known of each trial stands in the study's journal as soon as it ends, so that a search that is cut off goes on with
what it had. Imports neither TFX nor TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from components import progress
from components.process import sigterm_raised
from components.trainer.strategy import Machine
from components.tuner.clock import Clock
from components.tuner.constraints import Constraint, at_build, constraints_of, left_to_the_gate, violations
from components.tuner.crew import Crew, Heard
from components.tuner.measure import figures_of, of_files, of_saved_model
from components.tuner.reasons import best_told, died, epochs_told, search_over, too_long, undefined, without_winner
from components.tuner.space import size_of
from components.tuner.study import Asked, Rules, Study
from schemas.config import GatesConfig, ModelConfig, TFLiteConfig, TrainingConfig, TuneConfig
from schemas.tuning import STATES, Search, Trial, ranked

__all__ = ["Files", "Places", "Sections", "described", "places_for", "search"]

_ATTEMPTS = 2
"""Of a trial whose process is killed; a second death is taken for its own doing."""
_SECOND_CHANCES = 3
"""Trials that others ended and that are trained to their end after all, where none of those others can ship."""


@dataclass(frozen=True)
class Sections:
    """What the configuration says.

    Attributes:
        model, training, gates, tflite: its sections; `training` with a search.
    """

    model: ModelConfig
    training: TrainingConfig
    gates: GatesConfig
    tflite: TFLiteConfig | None = None

    @property
    def tune(self) -> TuneConfig:
        """The search."""
        assert self.training.tune is not None
        return self.training.tune


@dataclass(frozen=True)
class Files:
    """What is read.

    Attributes:
        examples: folder of the raw examples; of its splits, `train` and `validate` are read.
        transform_graph: folder.
        schema: file.
        path: of imports, where the user's module may lie.
    """

    examples: Path
    transform_graph: Path
    schema: Path
    path: Sequence[str] = ()


@dataclass(frozen=True)
class Places:
    """Where trials are trained.

    Attributes:
        environments: of each worker, what is its own.
        threads: of each, for the operations of a step; 0 leaves it to TensorFlow.
    """

    environments: tuple[Mapping[str, str], ...]
    threads: int


def places_for(tune: TuneConfig, machine: Machine, visible: str | None = None) -> Places:
    """A place for each trial at once: a GPU where there are any, taken in turns, or else a share of the processors.

    Args:
        tune: the configuration's section.
        machine: what there is.
        visible: CUDA_VISIBLE_DEVICES of this process.
    """
    asked = (machine.gpus or machine.cpus) if tune.parallel == "auto" else tune.parallel
    count = max(1, min(asked, tune.trials))
    if machine.gpus:
        names = [name.strip() for name in (visible or "").split(",") if name.strip()] or [
            str(index) for index in range(machine.gpus)
        ]
        return Places(tuple({"CUDA_VISIBLE_DEVICES": names[index % len(names)]} for index in range(count)), 0)
    return Places(({"CUDA_VISIBLE_DEVICES": "-1"},) * count, max(1, machine.cpus // count))


def described(sections: Sections, machine: Machine) -> list[str]:
    """A search that has not begun, in a few lines."""
    tune, places = sections.tune, places_for(sections.tune, machine)
    threads = f", {'one thread' if places.threads == 1 else f'{places.threads} threads'} each" if places.threads else ""
    size = size_of(tune.space)
    sets = f" ({size:,} sets)" if size is not None else ""
    lines = [
        f"tuning: {tune.trials} trials for {tune.objective} ({tune.better}) over {', '.join(tune.space)}{sets}; "
        f"{len(places.environments)} at once{threads}"
    ]
    if sections.training.strategy not in ("auto", "one_device"):
        lines.append(f"  trials train on one device each, whatever {sections.training.strategy} makes of the winner")
    if sections.training.warm_start != "none":
        lines.append("  trials begin from scratch, the training of the winner from the champion's weights")
    limits = [("a trial has", tune.trial_timeout), ("the whole search has", tune.timeout)]
    if any(limit for _, limit in limits):
        lines.append(f"  {', '.join(f'{who} {limit}' for who, limit in limits if limit)}")
    held = [one.gate for one in constraints_of(sections.gates)]
    if held:
        lines.append(f"  a trial cannot win that does not meet {', '.join(held)}")
    return lines


def search(
    sections: Sections,
    files: Files,
    places: Places,
    folder: Path,
    scratch: Path,
    *,
    sampler: Literal["tpe", "random"] = "tpe",
    prunes: bool = True,
    most_epochs: int | None = None,
) -> Search:
    """Searches, or goes on with a search that was cut off.

    Args:
        sections: of the configuration.
        files: to read.
        places: to train in.
        folder: of this search alone; what is in it is gone on with.
        scratch: folder for rows that memory does not hold and for payloads that are measured; of this attempt alone.
        sampler, prunes: as `Rules`.
        most_epochs: of all trials together. Those that train when they are spent end there, and may win; None for no limit.

    Raises:
        NoTrialWonError: no trial satisfies the gates, or none could be trained.
        TuningError: the model does not log the objective, or processes are killed again and again.
        DataError: there is nothing to learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training, tune = sections.training, sections.tune
    rules = Rules(tune.space, tune.better, training.seed, tune.trials, training.epochs, sampler, prunes)
    study = Study(folder / "study.log", rules)
    study.begin_with(sections.model.hyperparameters)
    work = {
        "model": sections.model.model_dump_json(by_alias=True),
        "training": training.model_dump_json(by_alias=True),
        "train_files": [str(files.examples / "Split-train" / "*")],
        "validate_files": [str(files.examples / "Split-validate" / "*")],
        "transform_graph": str(files.transform_graph),
        "schema": str(files.schema),
        "path": list(files.path),
        "threads": places.threads,
        "parallel": len(places.environments),
        "rows": str(scratch / "rows"),
    }
    with sigterm_raised(), Crew(work, places.environments, folder / "workers") as crew:
        return _Session(sections, files, places, scratch, study, crew, most_epochs).run()


@dataclass
class _Running:
    """A trial that a worker has.

    Attributes:
        asked: what was proposed.
        attempts: how often it was begun.
        began: when, the last time.
        epochs, figures: heard of it so far; of the weights that would be kept.
        undefined: those of the same weights that are no finite number.
        ended: how it will end, and why, where that was decided on the way.
        compared: whether it ends where others are better.
    """

    asked: Asked
    attempts: int = 1
    began: float = 0.0
    epochs: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, float] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    compared: bool = True


@dataclass
class _Session:
    sections: Sections
    files: Files
    places: Places
    scratch: Path
    study: Study
    crew: Crew
    most_epochs: int | None
    trials: list[Trial] = field(default_factory=list)
    _running: dict[int, _Running] = field(default_factory=dict)
    _idle: list[int] = field(default_factory=list)
    _again: list[_Running] = field(default_factory=list)
    _exhausted: bool = False
    now: Callable[[], float] = time.monotonic
    _clock: Clock = field(init=False)

    def run(self) -> Search:
        self._clock = Clock(self.sections.tune, self.study.spent_s(), self.now)
        self.trials = self.study.ended()
        resumed = len(self.trials)
        constraints = constraints_of(self.sections.gates)
        tune = self.sections.tune
        progress.begin("trials", tune.trials, phase="the workers begin", may_end_early=True)
        progress.advance(resumed)
        self._train(constraints)
        best = self._winner(constraints)
        return Search(
            objective=tune.objective,
            better=tune.better,
            best=best.number,
            trials=tuple(sorted(self.trials, key=lambda trial: trial.number)),
            parallel=self.crew.size,
            threads=self.places.threads,
            seconds=round(self._clock.run_s, 3),
            resumed=resumed,
            searcher=f"optuna {importlib.metadata.version('optuna')}",
            notes=self._notes(),
        )

    # --- trials -------------------------------------------------------------------------------------------------------

    def _train(self, constraints: Sequence[Constraint]) -> None:
        while True:
            while self._idle and (next_one := self._next()):
                self._hand_out(self._idle.pop(0), next_one)
            if not self._running and not self._again and not self._wants_more():
                return
            heard = self.crew.wait(self._clock.patience_s(one.began for one in self._running.values()))
            if heard is not None:
                self._heard(heard, constraints)
            self._end_late()
            if self._clock.is_over:
                self._end_all()
                return
            self._tell()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _end_late(self) -> None:
        """Kills the workers whose trial has had its time."""
        for worker, trial in list(self._running.items()):
            if self._clock.is_late(trial.began):
                self.crew.replace(worker)
                self._timed_out(self._running.pop(worker), too_long(trial.epochs, self.sections.tune.trial_timeout))

    def _end_all(self) -> None:
        """Ends all trials where the time of the search is over."""
        for worker in list(self._running):
            self.crew.replace(worker)
            trial = self._running.pop(worker)
            self._timed_out(trial, search_over(self.sections.tune.timeout, trial.epochs))
        for trial in self._again:
            self._timed_out(trial, search_over(self.sections.tune.timeout))
        self._again.clear()

    def _timed_out(self, trial: _Running, reason: str) -> None:
        self._keep(self._record(trial, "timed_out", reason, self.now() - trial.began))

    # --- what workers say ---------------------------------------------------------------------------------------------

    def _wants_more(self) -> bool:
        """Whether another trial may begin: what is impossible before it is trained does not count, as often again."""
        if self._exhausted:
            return False
        free = sum(trial.state == "infeasible" and not trial.epochs for trial in self.trials)
        begun = len(self.trials) - free + len(self._running) + len(self._again)
        return begun < self.sections.tune.trials and free < self.sections.tune.trials and not self._has_spent_all()

    def _has_spent_all(self) -> bool:
        """Whether all trials together have had their epochs."""
        epochs = sum(trial.epochs for trial in self.trials) + sum(one.epochs for one in self._running.values())
        return self.most_epochs is not None and epochs >= self.most_epochs

    def _next(self) -> _Running | None:
        if self._again:
            return self._again.pop(0)
        if not self._wants_more():
            return None
        asked = self.study.ask()
        if asked is None:
            self._exhausted = True
            return None
        return _Running(asked)

    def _hand_out(self, worker: int, trial: _Running) -> None:
        trial.began = self.now()
        self._running[worker] = trial
        self.crew.tell(worker, {"do": "train", "trial": trial.asked.number, "values": trial.asked.values})

    def _heard(self, heard: Heard, constraints: Sequence[Constraint]) -> None:
        worker, message = heard.worker, heard.message
        trial = self._running.get(worker)
        if message is None:
            self._lost(worker, heard.cause)
        elif "ready" in message:
            self._idle.append(worker)
        elif trial is None:
            return
        elif "built" in message:
            self.crew.tell(worker, {"go_on": self._may_train(trial, message["built"], constraints)})
        elif "epoch" in message:
            self.crew.tell(worker, {"go_on": self._may_go_on(trial, message["epoch"])})
        else:
            self._running.pop(worker)
            self._idle.append(worker)
            self._keep(self._ended(trial, message, constraints))

    def _lost(self, worker: int, cause: str) -> None:
        """A worker died: its trial is begun again once, for it may have been killed for no fault of the trial's."""
        if worker in self._idle:
            self._idle.remove(worker)
        trial = self._running.pop(worker, None)
        if trial is None:
            return
        if trial.attempts < _ATTEMPTS:
            self._again.append(_Running(trial.asked, trial.attempts + 1, trial.began))
            return
        reason = died(cause, trial.attempts, trial.epochs)
        self._keep(self._record(trial, "failed", reason, self.now() - trial.began))

    def _may_train(self, trial: _Running, built: Mapping[str, int], constraints: Sequence[Constraint]) -> bool:
        trial.figures["parameters"] = float(built["parameters"])
        broken = at_build(constraints, built["parameters"], built["bytes"], built["matrices"], self.sections.tflite)
        if broken:
            trial.ended = {"state": "infeasible", "reason": str(broken[0]), "violations": broken}
        return not broken

    def _may_go_on(self, trial: _Running, told: Mapping[str, Any]) -> bool:
        trial.epochs = told["epochs"]
        figures: Mapping[str, float] = told["figures"]
        objective = self.sections.tune.objective
        of_model = {name: value for name, value in trial.figures.items() if name == "parameters"}
        trial.figures = of_model | {name: value for name, value in figures.items() if math.isfinite(value)}
        trial.undefined = {name: value for name, value in figures.items() if not math.isfinite(value)}
        if reason := undefined(trial.undefined, (objective, "loss"), trial.epochs):
            trial.ended = {"state": "failed", "reason": reason}
            return False
        if not trial.compared:
            return True
        goes_on = self.study.report(trial.asked.number, trial.epochs, figures[objective])
        if not goes_on and trial.epochs < self.sections.training.epochs:
            trial.ended = {"state": "pruned", "reason": f"others were better after {epochs_told(trial.epochs)}"}
        return goes_on and not self._has_spent_all()

    def _ended(self, trial: _Running, message: Mapping[str, Any], constraints: Sequence[Constraint]) -> Trial:
        done = message.get("done")
        seconds = float(message["seconds"] if done is None else done["seconds"])
        if "timed_out" in message:
            tune, over = self.sections.tune, self._clock.is_over
            reason = search_over(tune.timeout, trial.epochs) if over else too_long(trial.epochs, tune.trial_timeout)
            return self._record(trial, "timed_out", reason, seconds)
        if done is None:
            return self._record(trial, "failed", str(message["failed"]), seconds)
        ended = dict(trial.ended) or {"state": "complete", "reason": ""}
        if ended["state"] == "complete":
            limited = [one.name for one in constraints if one.stage == "trained" and one.payload == "saved_model"]
            if reason := undefined(trial.undefined, limited, trial.epochs):
                ended = {"state": "failed", "reason": reason}
            elif broken := violations(constraints, trial.figures, "trained"):
                ended = {"state": "infeasible", "reason": str(broken[0]), "violations": broken}
        return self._record(trial, ended.pop("state"), ended.pop("reason"), seconds, **ended)

    def _record(self, trial: _Running, state: Any, reason: str, seconds: float, **others: Any) -> Trial:
        figures = trial.figures
        return Trial(
            number=trial.asked.number,
            values=trial.asked.values,
            objective=figures.get(self.sections.tune.objective),
            epochs=trial.epochs,
            state=state,
            reason=reason,
            seconds=round(seconds, 3),
            digest=_digest(self.sections, trial.asked.values),
            figures=figures,
            attempts=trial.attempts,
            **others,
        )

    def _keep(self, trial: Trial) -> None:
        self.study.finish(trial)
        self.study.spend(self._clock.spent_s)
        self.trials.append(trial)
        if trial.epochs or trial.state != "infeasible":
            progress.advance(1)

    def _tell(self) -> None:
        """The leaderboard in a line."""
        complete = [trial for trial in ranked(self.trials, self.sections.tune.better) if trial.state == "complete"]
        words = [f"best {best_told(complete[0], self.sections.tune.objective)}"] if complete else []
        running = [
            f"{one.asked.number} (epoch {one.epochs}/{self.sections.training.epochs})" for one in self._running.values()
        ]
        words += [f"trains {', '.join(running)}"] if running else []
        words += [
            f"{count} {state.replace('_', ' ')}"
            for state in STATES[1:]
            if (count := sum(trial.state == state for trial in self.trials))
        ]
        progress.advance(0, phase="; ".join(words))

    # --- the winner ---------------------------------------------------------------------------------------------------

    def _winner(self, constraints: Sequence[Constraint]) -> Trial:
        """The best that satisfies what is measured of its payload, too; those before it that do not are told as infeasible.

        Where none does, those that were ended early get a second chance, for it was to the good of others that cannot ship.
        """
        exported = [one for one in constraints if one.stage == "exported"]
        ranking = ranked(self.trials, self.sections.tune.better)
        self.crew.close(keep=1)  # nobody else is at work while a latency is measured
        for trial in (one for one in ranking if one.state == "complete"):
            found = self._replaced(trial, self._measured(trial, exported))
            if found.state == "complete":
                return found
        chances = _SECOND_CHANCES
        for trial in (one for one in ranking if one.state == "pruned"):
            if not chances or self._clock.is_over:
                break
            found = self._replaced(trial, self._measured(trial, exported))
            if found.state == "pruned":
                chances -= 1
                found = self._replaced(found, self._whole(found, constraints))
            if found.state == "complete":
                return found
        raise without_winner(self.trials)

    def _replaced(self, before: Trial, after: Trial) -> Trial:
        self.trials[self.trials.index(before)] = after
        return after

    def _whole(self, trial: Trial, constraints: Sequence[Constraint]) -> Trial:
        """A trial that was ended early, and whose payload meets its limits, after all its epochs."""
        progress.advance(
            0, phase=f"trains trial {trial.number} to its end, since none can ship of those that were better"
        )
        running = _Running(Asked(trial.number, trial.values), trial.attempts + 1, compared=False)

        def goes_on(question: Mapping[str, Any]) -> bool:
            if "built" in question:
                return self._may_train(running, question["built"], constraints)
            return self._may_go_on(running, question["epoch"])

        job = {"do": "train", "trial": trial.number, "values": trial.values}
        said = self._worked(job, goes_on, min(self._clock.trial_s, self._clock.left_s))
        ended = self._ended(running, said, constraints)
        of_payload = tuple(one.name for one in constraints if one.stage == "exported")
        measured = {name: value for name, value in trial.figures.items() if name.startswith(of_payload)}
        return ended.model_copy(update={"figures": {**ended.figures, **measured}})

    def _measured(self, trial: Trial, constraints: Sequence[Constraint]) -> Trial:
        if not constraints:
            return trial
        progress.advance(0, phase=f"measures the payload of trial {trial.number}")
        of_model = [one for one in constraints if one.payload == "saved_model"]
        files = [one for one in constraints if one.payload == "tflite"]
        folder = self.scratch / "payload"
        said = self._exported(trial, folder, files)
        if "failed" in said:
            return trial.model_copy(update={"state": "failed", "reason": f"cannot be exported: {said['failed']}"})
        done = said["done"]
        figures = figures_of(folder / "saved_model", self.files.examples, done["names"], of_model)
        broken = (*of_saved_model(of_model, figures), *of_files(files, done["files"]))
        known = {**trial.figures, **figures, **{f"tflite size_mb {name}": size for name, size in done["files"].items()}}
        more = {"state": "infeasible", "reason": str(broken[0]), "violations": broken} if broken else {}
        return trial.model_copy(update={"figures": known, **more})

    def _exported(self, trial: Trial, folder: Path, files: Sequence[Constraint]) -> Mapping[str, Any]:
        """What the worker that is left says of the payload that it wrote, `done` or `failed`."""
        named = any(one.variant for one in files)
        limit = min((one.limit for one in files if one.upper), default=None)
        tflite = self.sections.tflite if files else None
        job = {
            "do": "export",
            "values": trial.values,
            "folder": str(folder),
            "tflite": tflite.model_dump_json() if tflite else None,
            "limit_mb": None if named else limit,
        }
        return self._worked(job)

    def _worked(
        self,
        job: Mapping[str, Any],
        goes_on: Callable[[Mapping[str, Any]], bool] | None = None,
        limit_s: float = math.inf,
    ) -> Mapping[str, Any]:
        """How the worker that is left came to the end of a job, begun again once where it dies.

        Args:
            job: of the protocol.
            goes_on: answers its questions.
            limit_s: of the job, once a worker has it.
        """
        deaths = 0
        end = self._told_alone(job, limit_s) if 0 in self._idle else math.inf
        self._idle = []
        while (heard := self.crew.wait(end - self.now())) is not None:
            message = heard.message
            if message is None:
                deaths += 1
                if deaths >= _ATTEMPTS:
                    return {"failed": died(heard.cause, deaths), "seconds": 0.0}
            elif "ready" in message:
                end = self._told_alone(job, limit_s)
            elif "done" in message or "failed" in message:
                self._idle = [0]
                return message
            elif goes_on is not None:
                self.crew.tell(0, {"go_on": goes_on(message)})
        self.crew.replace(0)
        return {"timed_out": True, "seconds": limit_s}

    def _told_alone(self, job: Mapping[str, Any], limit_s: float) -> float:
        """Tells the worker that is left; when its time is over."""
        self.crew.tell(0, job)
        return self.now() + limit_s

    def _notes(self) -> tuple[str, ...]:
        left = left_to_the_gate(self.sections.gates)
        known = {name for trial in self.trials for name in trial.figures}
        unlogged = [
            one.gate
            for one in constraints_of(self.sections.gates)
            if one.stage == "trained" and one.payload == "saved_model" and one.name not in known
        ]
        notes = (
            [f"no trial is held against {', '.join([*left, *unlogged])}: the Gate judges them"]
            if left or unlogged
            else []
        )
        if self._exhausted:
            notes.append("the space holds no more values that were not tried")
        elif self._clock.is_over:
            tune = self.sections.tune
            ended = f"ended the search after {len(self.trials)} of {tune.trials} trials"
            notes.append(f"the {tune.timeout} of training.tune.timeout {ended}")
        return tuple(notes)


def _digest(sections: Sections, values: Mapping[str, JsonValue]) -> str:
    model = sections.model.model_copy(update={"hyperparameters": {**sections.model.hyperparameters, **values}})
    training = sections.training.model_copy(update={"tune": None})
    text = json.dumps([model.model_dump(mode="json"), training.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
