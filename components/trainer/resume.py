"""What a training needs to be taken up again after a kill: written after each epoch, and every so many steps.

Weights, the optimizer's state and its loss scale, the curve, what early stopping has seen, and within an epoch what its
metrics have added up so far; arrays and text, nothing that is pickled, each file whole or not there. Keras' own
BackupAndRestore forgets what early stopping and the metrics had seen, and a training that is taken up would end otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from components.trainer.preemption import Preemption

__all__ = ["Resume", "State", "key_of", "restore"]

_FILE = "state.npz"
_ABOUT = "about"
_PREFIXES = ("model", "optimizer", "best", "metrics")


def key_of(*parts: Any) -> str:
    """A name for a training that follows from what it is made of: JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class State:
    """A training after some epochs, and some steps of the next.

    Attributes:
        epochs: that are done.
        step: steps of the next epoch that are done.
        history: metric name to one value for each of them.
        stopped: whether early stopping has ended it.
        early: `wait`, `best` and `best_epoch` of early stopping; empty without one.
        arrays: of the model, the optimizer, the best weights so far and, within an epoch, the metrics, in their order.
    """

    epochs: int = 0
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    stopped: bool = False
    early: dict[str, float] = field(default_factory=dict)
    arrays: Mapping[str, list[npt.NDArray[Any]]] = field(default_factory=dict)


class Resume:
    """A folder that holds the state of one training.

    Attributes:
        folder: of this training alone.
        writes: whether this process keeps the state: the chief of a cluster does. Reading the weights takes all of them.
        every_steps: how many steps may be lost, about; None keeps the state after each epoch alone.
        within_epochs: whether it can be kept within one; where workers go each their own way there is no such state.
    """

    def __init__(
        self, folder: Path, *, writes: bool = True, every_steps: int | None = None, within_epochs: bool = True
    ) -> None:
        """Take the folder, which need not be there."""
        self.folder, self.writes = folder, writes
        self.every_steps, self.within_epochs = every_steps, within_epochs

    def load(self) -> State:
        """The last state that was written whole; one without epochs where there is none."""
        try:
            with (self.folder / _FILE).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                about = json.loads(str(file[_ABOUT]))
                arrays = {
                    prefix: [file[f"{prefix}_{index}"] for index in range(about["counts"][prefix])]
                    for prefix in _PREFIXES
                }
        except (FileNotFoundError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return State()
        return State(about["epochs"], about["step"], about["history"], about["stopped"], about["early"], arrays)

    def save(self, state: State) -> None:
        """Replaces the state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "epochs": state.epochs,
            "step": state.step,
            "history": state.history,
            "stopped": state.stopped,
            "early": state.early,
            "counts": {prefix: len(state.arrays.get(prefix, [])) for prefix in _PREFIXES},
        }
        named: dict[str, Any] = {
            f"{prefix}_{i}": array for prefix, arrays in state.arrays.items() for i, array in enumerate(arrays)
        }
        half = self.folder / f".{_FILE}.{os.getpid()}"
        with half.open("wb") as file:
            np.savez(file, **{**named, _ABOUT: np.array(json.dumps(about))})
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, self.folder / _FILE)

    def clear(self) -> None:
        """Removes the state: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def callback(self, keras: ModuleType, state: State, early: Any, steps: int, preemption: Preemption) -> Any:
        """A Keras callback that saves after each epoch, every so many steps, and before the process has to go.

        Args:
            keras: the Keras of the model.
            state: where the training begins.
            early: the EarlyStopping callback, which must stand before this one; None where there is none.
            steps: of a whole epoch.
            preemption: tells when the process has to go.

        Returns:
            The callback. Keras counts the steps of a call of `fit` from zero: whoever begins one within an epoch sets
            `offset`, the steps of that epoch that are done, before.
        """
        return _keeper(keras, _Keeping(self, state, early, steps, preemption))


class _Keeping:
    """When the state is kept, and what of it is put back where a call of `fit` begins."""

    def __init__(self, resume: Resume, state: State, early: Any, steps: int, preemption: Preemption) -> None:
        self._resume, self._early, self._steps, self._preemption = resume, early, steps, preemption
        self._began, self._seen = state, state
        self._history = {name: list(values) for name, values in state.history.items()}
        self._kept_at = state.step

    def begin(self) -> None:
        """Early stopping forgets whatever it has seen, when `fit` begins."""
        early, seen = self._early, self._seen
        if early is not None and seen.early:
            early.wait, early.best_epoch = int(seen.early["wait"]), int(seen.early["best_epoch"])
            early.best = seen.early["best"]
            early.best_weights = list(seen.arrays["best"]) or None

    def begin_within(self, model: Any) -> None:
        """The metrics of an epoch begin from nothing, when it does."""
        _assign(_metrics_variables(model), self._began.arrays["metrics"])

    def after_step(self, model: Any, epoch: int, step: int) -> None:
        leaves = self._preemption.is_due()
        if step >= self._steps:  # the end of the epoch is kept, with its figures
            return
        every = self._resume.every_steps
        if self._resume.within_epochs and (leaves or (every and step // every > self._kept_at // every)):
            self._kept_at = step
            self._keep(model, epoch, step)
        if leaves:
            self._preemption.leave()

    def after_epoch(self, model: Any, epoch: int, logs: Mapping[str, Any]) -> None:
        for name, value in logs.items():
            self._history.setdefault(name, []).append(float(value))
        self._kept_at = 0
        self._keep(model, epoch + 1, 0)
        if self._preemption.is_due():
            self._preemption.leave()

    def _keep(self, model: Any, epochs: int, step: int) -> None:
        self._seen = _state(model, epochs, step, self._history, self._early)
        if self._resume.writes:
            self._resume.save(self._seen)


def _keeper(keras: ModuleType, keeping: _Keeping) -> Any:
    class Keeper(keras.callbacks.Callback):  # type: ignore[name-defined]
        _supports_tf_logs = only_counts = True  # looks at no figure of a step, so that nothing waits for the device
        epoch = offset = 0

        def on_train_begin(self, logs: Any = None) -> None:
            keeping.begin()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch
            if self.offset:
                keeping.begin_within(self.model)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            keeping.after_step(self.model, self.epoch, self.offset + batch + 1)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.offset = 0
            keeping.after_epoch(self.model, epoch, logs or {})

    return Keeper()


def restore(model: Any, state: State) -> None:
    """Puts weights and the optimizer's state into a model that was built anew; call it in the strategy's scope."""
    if not (state.epochs or state.step):
        return
    model.optimizer.build(model.trainable_variables)
    _assign(model.variables, state.arrays["model"])
    _assign(_optimizer_variables(model), state.arrays["optimizer"])


def _state(model: Any, epochs: int, step: int, history: Mapping[str, Sequence[float]], early: Any) -> State:
    seen: dict[str, float] = {}
    best: list[Any] = []
    if early is not None and early.best is not None:
        seen = {"wait": early.wait, "best": float(early.best), "best_epoch": early.best_epoch}
        best = [np.asarray(array) for array in early.best_weights or []]
    return State(
        epochs,
        step,
        {name: list(values) for name, values in history.items()},
        bool(model.stop_training),
        seen,
        {
            "model": [variable.numpy() for variable in model.variables],
            "optimizer": [variable.numpy() for variable in _optimizer_variables(model)],
            "best": best,
            "metrics": [_read(variable) for variable in _metrics_variables(model)] if step else [],
        },
    )


def _optimizer_variables(model: Any) -> list[Any]:
    """Those of the optimizer, and of what scales the loss around it, which tf_keras does not count among them."""
    found = model.optimizer.variables
    scale = getattr(model.optimizer, "_loss_scale", None)
    kept = [getattr(scale, name) for name in ("_current_loss_scale", "_counter") if hasattr(scale, name)]
    return [*(found() if callable(found) and not isinstance(found, list) else found), *kept]


def _metrics_variables(model: Any) -> list[Any]:
    """What the metrics of an epoch have added up, the loss among them."""
    return [variable for metric in model.metrics for variable in metric.variables]


def _read(variable: Any) -> npt.NDArray[Any]:
    """The value over all replicas, which takes all workers where each adds up for itself."""
    held = variable if hasattr(variable, "read_value") else variable.value  # of tf_keras, of Keras 3
    return np.asarray(held.read_value())


def _assign(variables: Sequence[Any], arrays: Sequence[npt.NDArray[Any]]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
