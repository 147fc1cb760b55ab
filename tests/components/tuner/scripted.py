"""A crew of one worker that trains nothing: it says of each trial what a script has it say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from components.tuner.crew import Crew, Heard
from components.tuner.search import Files, Places, Sections, _Session
from components.tuner.study import Rules, Study
from schemas.config import GatesConfig, ModelConfig, TrainingConfig
from schemas.tuning import Search

Epochs = Callable[[Mapping[str, Any]], Sequence[Mapping[str, float] | None]]
"""Of the values of a trial, the figures after each epoch; None for one that does not end."""

_ENDS = {"seconds": 0.0}


class ScriptedCrew:
    """Speaks the protocol of a crew. The names of an export are the values of its trial.

    Attributes:
        jobs: that it was told of.
        replaced: how often its worker was killed.
        seconds: that have gone by: one an epoch, and what was waited for an epoch that does not end.
    """

    size = 1

    def __init__(self, epochs: Epochs) -> None:
        """Takes what its trials come to."""
        self._epochs = epochs
        self._said: list[dict[str, Any]] = [{"ready": {}}]
        self._left: list[Mapping[str, float] | None] = []
        self._number = 0
        self.jobs: list[Mapping[str, Any]] = []
        self.replaced = 0
        self.seconds = 0.0

    def tell(self, worker: int, message: Mapping[str, Any]) -> None:
        """Notes a job, or the answer to a question."""
        if "go_on" not in message:
            self.jobs.append(message)
        if message.get("do") == "export":
            self._said.append({"done": {"names": message["values"], "files": {}}})
        elif message.get("do") == "train":
            self._left, self._number = list(self._epochs(message["values"])), 0
            self._said.append({"built": {"parameters": 8, "bytes": 32, "matrices": 8}})
        elif not message["go_on"]:
            self._said.append({"done": _ENDS})
        elif self._left:
            self._begin(self._left.pop(0))
        else:
            self._said.append({"done": _ENDS})

    def wait(self, timeout_s: float = math.inf) -> Heard | None:
        """The next thing that is said."""
        if self._said:
            return Heard(0, self._said.pop(0))
        assert timeout_s < math.inf, "nobody would ever say anything"
        self.seconds += timeout_s
        return None

    def replace(self, worker: int) -> None:
        """Another worker begins."""
        self.replaced += 1
        self._said = [{"ready": {}}]

    def _begin(self, figures: Mapping[str, float] | None) -> None:
        self._number += 1
        if figures is not None:
            self.seconds += 1
            self._said.append({"epoch": {"epochs": self._number, "figures": figures}})

    def close(self, keep: int = 0) -> None:
        """Nothing runs."""


def searched(
    folder: Path,
    tune: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
    epochs: Epochs,
    first: Mapping[str, Any] | None = None,
) -> Search:
    """A search whose trials a script trains.

    Args:
        folder: for the journal.
        tune: the section `training.tune`.
        gates: those of `gates.satisfy`.
        epochs: what the trials come to, three each.
        first: values of the first trial; None leaves them to the sampler.
    """
    training = TrainingConfig.model_validate({"epochs": 3, "early_stopping": None, "tune": tune}, strict=False)
    sections = Sections(
        ModelConfig(module="none", label="label"),
        training,
        GatesConfig.model_validate({"satisfy": gates}, strict=False),
    )
    rules = Rules(sections.tune.space, sections.tune.better, 0, sections.tune.trials, training.epochs)
    study = Study(folder / "study.log", rules)
    study.begin_with(first or {})
    files = Files(folder, folder, folder)
    crew = ScriptedCrew(epochs)
    session = _Session(
        sections, files, Places(({},), 1), folder, study, cast("Crew", crew), None, now=lambda: crew.seconds
    )
    return session.run()
