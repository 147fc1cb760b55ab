"""What a training needs to be taken up again after a kill, written after each epoch, whole or not at all.

Weights, the optimizer's state, the curve, and what early stopping has seen; arrays and text, nothing that is pickled.
Keras' own BackupAndRestore forgets what early stopping had seen, and a training that is taken up would end otherwise.
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

__all__ = ["Resume", "State", "key_of", "restore"]

_FILE = "state.npz"
_ABOUT = "about"
_PREFIXES = ("model", "optimizer", "best")


def key_of(*parts: Any) -> str:
    """A name for a training that follows from what it is made of: JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class State:
    """A training after some epochs.

    Attributes:
        epochs: that are done.
        history: metric name to one value for each of them.
        stopped: whether early stopping has ended it.
        early: `wait`, `best` and `best_epoch` of early stopping; empty without one.
        arrays: of the model, the optimizer and the best weights so far, in their order.
    """

    epochs: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    stopped: bool = False
    early: dict[str, float] = field(default_factory=dict)
    arrays: Mapping[str, list[npt.NDArray[Any]]] = field(default_factory=dict)


class Resume:
    """A folder that holds the state of one training.

    Attributes:
        folder: of this training alone.
        writes: whether this process keeps the state: the chief of a cluster does. Reading the weights takes all of them.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        """Take the folder, which need not be there."""
        self.folder, self.writes = folder, writes

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
        return State(about["epochs"], about["history"], about["stopped"], about["early"], arrays)

    def save(self, state: State) -> None:
        """Replaces the state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "epochs": state.epochs,
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

    def callback(self, keras: ModuleType, state: State, early: Any) -> Any:
        """A Keras callback that saves after each epoch.

        Args:
            keras: the Keras of the model.
            state: where the training begins.
            early: the EarlyStopping callback, which must stand before this one; None where there is none.
        """
        outer = self

        class Keeper(keras.callbacks.Callback):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.history = {name: list(values) for name, values in state.history.items()}

            def on_train_begin(self, logs: Any = None) -> None:
                if early is not None and state.early:
                    early.wait, early.best_epoch = int(state.early["wait"]), int(state.early["best_epoch"])
                    early.best = state.early["best"]
                    early.best_weights = list(state.arrays["best"]) or None

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                for name, value in (logs or {}).items():
                    self.history.setdefault(name, []).append(float(value))
                now = _state(self.model, epoch + 1, self.history, early)
                if outer.writes:
                    outer.save(now)

        return Keeper()


def restore(model: Any, state: State) -> None:
    """Puts weights and the optimizer's state into a model that was built anew; call it in the strategy's scope."""
    if not state.epochs:
        return
    model.optimizer.build(model.trainable_variables)
    _assign(model.variables, state.arrays["model"])
    _assign(_optimizer_variables(model), state.arrays["optimizer"])


def _state(model: Any, epochs: int, history: Mapping[str, Sequence[float]], early: Any) -> State:
    seen: dict[str, float] = {}
    best: list[Any] = []
    if early is not None and early.best is not None:
        seen = {"wait": early.wait, "best": float(early.best), "best_epoch": early.best_epoch}
        best = [np.asarray(array) for array in early.best_weights or []]
    return State(
        epochs,
        {name: list(values) for name, values in history.items()},
        bool(model.stop_training),
        seen,
        {
            "model": [variable.numpy() for variable in model.variables],
            "optimizer": [variable.numpy() for variable in _optimizer_variables(model)],
            "best": best,
        },
    )


def _optimizer_variables(model: Any) -> list[Any]:
    found = model.optimizer.variables
    return list(found() if callable(found) and not isinstance(found, list) else found)


def _assign(variables: Sequence[Any], arrays: Sequence[npt.NDArray[Any]]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
