"""What is noted while a model trains: curves that TensorBoard reads, rows a second, and how busy the processor was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.trainer.curves import Meter, TensorBoard
from tests.components.trainer.test_run import train, training
from tests.components.trainer.tiny import Tiny


def curve(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard's own reader finds it: epoch and value by the name of the figure."""
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_the_curve_of_a_training_is_an_artifact(tiny: Tiny, tmp_path: Path) -> None:
    """In the folder of TFX's ModelRun, `train` beside `validation`, with the numbers that the lineage has."""
    record = train(tiny, tmp_path, training(epochs=3))
    for place, prefix in (("train", ""), ("validation", "val_")):
        found = curve(tmp_path / "run" / place)
        assert set(found) == {"epoch_loss", "epoch_binary_accuracy"}
        for name in ("loss", "binary_accuracy"):
            expected = record["history"][f"{prefix}{name}"]
            assert [step for step, _ in found[f"epoch_{name}"]] == [0, 1, 2]
            assert [value for _, value in found[f"epoch_{name}"]] == pytest.approx(expected, rel=1e-6)
    assert [one["epoch"] for one in record["rates"]] == [1, 2, 3]
    assert all(one["examples_per_s"] == pytest.approx(37 / one["seconds"], rel=0.01) for one in record["rates"])
    assert set(record["cpu_utilisation"]) == {"trainer"}


def test_a_training_that_was_taken_up_has_the_whole_curve(tmp_path: Path) -> None:
    """What was done before is written again, for the folder is a new one."""
    board = TensorBoard(tmp_path)
    board.write({"loss": [3.0, 2.0], "val_loss": [4.0, 3.0]})
    board.add(2, {"loss": 1.0})
    board.close()
    assert curve(tmp_path / "train") == {"epoch_loss": [(0, 3.0), (1, 2.0), (2, 1.0)]}
    assert curve(tmp_path / "validation") == {"epoch_loss": [(0, 4.0), (1, 3.0)]}


def test_validation_is_no_part_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are the rows that were seen before an epoch was taken up; of several epochs, the longest counts most."""
    import tf_keras

    clock = [0.0, 0.0]
    monkeypatch.setattr("components.trainer.curves._now", lambda: tuple(clock))
    meter = Meter(100)
    assert meter.cpu_utilisation is None
    callback: Any = meter.callback(tf_keras, 0.5, None)
    callback.on_train_begin()
    for wall, cpu in ((1.0, 2.0), (3.0, 3.0)):
        callback.on_epoch_begin(len(meter.epochs))
        clock[0] += wall
        clock[1] += cpu
        callback.on_test_begin()
        clock[0] += 50
        callback.on_test_end()
        callback.on_epoch_end(len(meter.epochs))
    assert meter.epochs == [
        {"epoch": 1, "seconds": 1.0, "examples_per_s": 50.0, "cpu_utilisation": 2.0},
        {"epoch": 2, "seconds": 3.0, "examples_per_s": 33.3, "cpu_utilisation": 1.0},
    ]
    assert meter.cpu_utilisation == pytest.approx(1.25)
