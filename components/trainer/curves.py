"""What is noted while a model trains: curves for TensorBoard, rows a second, and how busy the processor was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf

__all__ = ["Meter", "TensorBoard"]

_VALIDATION = "val_"


class TensorBoard:
    """Writes each epoch's figures where TensorBoard looks for them: `train` and `validation` below a folder.

    The names are those of Keras' own callback (`epoch_loss`), which would also trace the graph of the model.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder, which need not be there."""
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, history: Mapping[str, Sequence[float]]) -> None:
        """Writes a curve from its beginning: that of epochs which were done before."""
        for epoch in range(len(next(iter(history.values()), []))):
            self.add(epoch, {name: values[epoch] for name, values in history.items()})

    def add(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of an epoch, counted from 0, as Keras names them."""
        for name, value in figures.items():
            place = "validation" if name.startswith(_VALIDATION) else "train"
            with self._writer(place).as_default(), tf.device("/cpu:0"):
                tf.summary.scalar(f"epoch_{name.removeprefix(_VALIDATION)}", float(value), step=epoch)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Nothing is written any more."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, place: str) -> Any:
        if place not in self._writers:
            self._writers[place] = tf.summary.create_file_writer(str(self._folder / place))
        return self._writers[place]


@dataclass
class Meter:
    """How fast this process trains, and how much of the processor it uses; validation is left out.

    Attributes:
        rows: of an epoch.
        epochs: for each epoch that was trained here: its number, from 1; `seconds`; `examples_per_s` of the whole group,
            and `cpu_utilisation` of this process, in processor seconds per second: 2 is two busy cores.
    """

    rows: int
    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def cpu_utilisation(self) -> float | None:
        """Over all epochs; None where none was trained."""
        seconds = sum(one["seconds"] for one in self.epochs)
        busy = sum(one["seconds"] * one["cpu_utilisation"] for one in self.epochs)
        return round(busy / seconds, 3) if seconds else None

    def callback(self, keras: ModuleType, share: float, tensorboard: TensorBoard | None) -> Any:
        """A Keras callback that measures each epoch and writes its figures.

        Args:
            keras: of the model.
            share: of an epoch's rows that the first epoch of this call of `fit` still has to see.
            tensorboard: where figures are written; None where this process writes none.
        """
        meter = self

        class Measuring(keras.callbacks.Callback):  # type: ignore[name-defined]
            def on_train_begin(self, logs: Any = None) -> None:
                self.share = share

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.wall, self.cpu, self.began = 0.0, 0.0, _now()

            def on_test_begin(self, logs: Any = None) -> None:
                self._stop()

            def on_test_end(self, logs: Any = None) -> None:
                self.began = _now()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                self._stop()
                meter._note(epoch, self.share, self.wall, self.cpu)
                self.share = 1.0
                if tensorboard is not None:
                    tensorboard.add(epoch, logs or {})

            def _stop(self) -> None:
                wall, cpu = _now()
                self.wall, self.cpu = self.wall + wall - self.began[0], self.cpu + cpu - self.began[1]
                self.began = wall, cpu

        return Measuring()

    def _note(self, epoch: int, share: float, wall: float, cpu: float) -> None:
        seconds = max(wall, 1e-9)
        self.epochs.append(
            {
                "epoch": epoch + 1,
                "seconds": round(seconds, 6),
                "examples_per_s": round(self.rows * share / seconds, 1),
                "cpu_utilisation": round(cpu / seconds, 3),
            }
        )


def _now() -> tuple[float, float]:
    """Wall time and processor time, in seconds."""
    return time.monotonic(), time.process_time()
