"""Training under strategies, each in processes of its own: the same sums as one device, every row once, and alive after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.components.trainer.tiny import SCHEMA, example, write_raw, write_transform_output

ROWS, HELD_OUT = 404, 107
MODULE = "tests.resources.clipped_model"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last batch is a small one: of training it divides evenly, so that the sums are the same; of evaluation it does not."""
    folder = tmp_path_factory.mktemp("rows")
    write_transform_output(folder)
    write_raw(folder / "Split-train" / "part-0", [index % 40 for index in range(ROWS)])
    write_raw(folder / "Split-validate" / "part-0", [index % 40 for index in range(HELD_OUT)])
    (folder / "schema.pbtxt").write_text(SCHEMA)
    return folder


def start(data: Path, folder: Path, held: Path | None = None, **training: Any) -> subprocess.Popen[bytes]:
    """A training; where `held` is there, it stands still at the first state that it keeps."""
    told = {"global_batch_size": 50, "epochs": 4, **training}
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.components.trainer.trials", str(data), str(folder), json.dumps(told), MODULE],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                "TF_CPP_MIN_LOG_LEVEL": "0",  # what the log says is asserted, whatever the caller's shell has set
                **({"TRIALS_HELD": str(held)} if held else {}),
            },
        )


def trained(data: Path, folder: Path, **training: Any) -> dict[str, Any]:
    """The record."""
    process = start(data, folder, **training)
    assert process.wait(300) == 0, (folder.parent / f"{folder.name}.log").read_text()[-3000:]
    return record(folder)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "training.json").read_text())
    return found


@pytest.fixture(scope="module")
def one_device(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(data, tmp_path_factory.mktemp("one") / "out", strategy="one_device")


TFLITE = {
    "mirrored": {"quantization_aware": True},
    "central_storage": {"clustering": {"clusters": 4}},
    "multi_worker_mirrored": {"pruning": {"final_sparsity": 0.5}},
}
MANY = {
    "mirrored": {"devices": 2},
    "central_storage": {"devices": 2},
    "multi_worker_mirrored": {"workers": 2, "communication": "ring"},
}


@pytest.mark.parametrize("strategy", list(MANY))
@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_every_strategy_gives_what_one_device_gives(
    backend: str, strategy: str, data: Path, tmp_path: Path, one_device: Any
) -> None:
    """The loss of each epoch, with gradients that are clipped; each row once in training and in
    evaluation. What ships is the model that was trained; the one of tf_keras is made smaller first, by the chief and on one
    device, for which the others need not wait.
    """
    more = {"tflite": TFLITE[strategy]} if backend == "tf_keras" else {}
    found = trained(data, tmp_path / "out", backend=backend, strategy=strategy, **MANY[strategy], **more)
    assert found["plan"]["replicas"] == 2
    for metric in ("loss", "val_loss"):
        assert found["history"][metric] == pytest.approx(one_device["history"][metric], abs=1e-3)
    for prefix in ("", "val_"):
        for label in ("ones", "zeros"):
            assert found["history"][prefix + label] == one_device["history"][prefix + label]
    assert _sum(found, "") == [ROWS] * 4
    assert _sum(found, "val_") == [HELD_OUT] * 4
    shipped = found["history"]["val_loss"][-1]
    if more:
        (kind,) = more["tflite"]
        assert found["compression"]["kind"] == kind
        shipped = found["compression"]["after"]["val_loss"]
    assert _loss(tmp_path / "out") == pytest.approx(shipped, abs=1e-6)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Format-Serving", "run"]


def _sum(found: dict[str, Any], prefix: str) -> list[int]:
    history = found["history"]
    return [int(ones + zeros) for ones, zeros in zip(history[f"{prefix}ones"], history[f"{prefix}zeros"], strict=True)]


def _loss(folder: Path) -> float:
    """The loss of the exported model on the validation rows, reckoned by hand."""
    loaded = tf.saved_model.load(str(folder / "Format-Serving"))
    examples = tf.constant([example(index % 40) for index in range(HELD_OUT)])
    answers = loaded.signatures["serving_examples"](examples=examples)["outputs"].numpy().astype(np.float64)
    labels = loaded.signatures["transform_features"](examples=examples)["label"].numpy()
    answers = np.clip(answers, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels > 0, np.log(answers), np.log(1 - answers))))


# --- kills ------------------------------------------------------------------------------------------------------------

EPOCHS = 30
LONG = {
    "strategy": "multi_worker_mirrored",
    "workers": 2,
    "epochs": EPOCHS,
    "steps_per_execution": 1,
    "checkpoint_every_steps": 2,
}


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(data, tmp_path_factory.mktemp("long") / "out", strategy="mirrored", devices=2, epochs=EPOCHS)


def members(folder: Path) -> dict[str, int]:
    """Process ids of a cluster, by the name of the member."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if len(words) > 3 and words[-2].startswith(f"{folder}/run/workers/"):
            found[Path(words[-2]).stem] = int(process.name)
    return found


def until(what: Any, within_s: float = 240, of: subprocess.Popen[bytes] | None = None) -> Any:
    """What is there at last; of a process that has not ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        assert of is None or of.poll() is None, f"ended with {of.returncode}"
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def states(folder: Path) -> Iterator[Path]:
    return folder.glob(".resume-*/state.npz")


def position(folder: Path) -> tuple[int, int]:
    """Epochs that are kept, and steps of the next."""
    for file in states(folder):
        with np.load(file) as kept:
            about = json.loads(str(kept["about"]))
        return about["epochs"], about["step"]
    return 0, 0


def goes_on(folder: Path, since: tuple[int, int]) -> bool:
    """Whether more is kept than there was; never less."""
    now = position(folder)
    assert now >= since
    return now > since


@pytest.mark.parametrize(("backend", "lost"), [("tf_keras", ["worker-0"]), ("keras3", ["worker-1", "worker-0"])])
def test_the_loss_of_any_process_loses_no_epoch(
    backend: str, lost: list[str], data: Path, tmp_path: Path, undisturbed: Any
) -> None:
    """Without a worker, be it the chief (`worker-0`), the group begins anew where the chief was. With the Trainer its
    workers die, and the next one goes on. On SIGTERM all workers stop after the same step, which is kept, and end as SIGTERM ends a process. The curve is the
    one that nobody disturbed.
    """
    folder, training = tmp_path / "out", {**LONG, "backend": backend}
    process = start(data, folder, **training)
    until(lambda: goes_on(folder, (0, 0)), of=process)
    for attempt, worker in enumerate(lost, start=2):
        there = position(folder)
        os.kill(until(lambda name=worker: members(folder).get(name)), signal.SIGKILL)
        until(lambda since=there, count=attempt: goes_on(folder, since) and _attempts(folder) == count, of=process)

    assert len(members(folder)) == 2
    process.kill()
    process.wait()
    until(lambda: not members(folder))
    there = position(folder)
    process = start(data, folder, **training)
    until(lambda: goes_on(folder, there), of=process)

    there = _ended_by_sigterm(process, folder)
    _goes_on_from(there, data, folder, training, undisturbed)
    assert not list(states(folder))


def test_sigterm_saves_first_in_one_process(data: Path, tmp_path: Path, undisturbed: Any) -> None:
    """The next training goes on from there."""
    folder, training = tmp_path / "out", {"strategy": "mirrored", "devices": 2, "epochs": EPOCHS}
    held = tmp_path / "held"  # all epochs take a second
    held.touch()
    process = start(data, folder, held, **training)
    until(lambda: goes_on(folder, (0, 0)), of=process)
    _goes_on_from(_ended_by_sigterm(process, folder, held), data, folder, training, undisturbed)


def _ended_by_sigterm(process: subprocess.Popen[bytes], folder: Path, held: Path | None = None) -> tuple[int, int]:
    """What was kept then."""
    process.terminate()
    if held is not None:
        held.unlink()
    assert process.wait(240) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert not members(folder)
    assert not (folder / "Format-Serving").exists()
    epochs, step = position(folder)
    assert 0 < epochs * 9 + step < EPOCHS * 9
    return epochs, step


def _goes_on_from(
    there: tuple[int, int], data: Path, folder: Path, training: dict[str, Any], undisturbed: dict[str, Any]
) -> None:
    found = trained(data, folder, **training)
    assert (found["resumed_at_epoch"], found.get("resumed_at_step", 0)) == there
    assert found["history"]["loss"] == pytest.approx(undisturbed["history"]["loss"], abs=1e-4)
    assert _sum(found, "") == [ROWS] * EPOCHS
    assert all(share > 0 for share in found["cpu_utilisation"].values())


def _attempts(folder: Path) -> int:
    return (folder / "run" / "workers" / "worker-0.log").read_text(errors="replace").count("--- attempt")


# --- what is set up before a training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_a_training_step_is_compiled_where_that_is_asked_for(backend: str, data: Path, tmp_path: Path) -> None:
    """XLA says so in the log, once, and the answers are the model's."""
    found = trained(data, tmp_path / "out", backend=backend, jit_compile=True, epochs=2)
    assert "Compiled cluster using XLA" in (tmp_path / "out.log").read_text()
    assert _loss(tmp_path / "out") == pytest.approx(found["history"]["val_loss"][-1], abs=1e-6)


def test_tensorflow_is_set_up_as_the_plan_says() -> None:
    """Logical devices, deterministic operations; and a refusal where it has begun already."""
    code = """
import tensorflow as tf
from components.trainer.scope import machine_of_tensorflow, prepare
from components.trainer.strategy import make_plan
from schemas.config import TrainingConfig
from schemas.errors import SatisficeError
training = TrainingConfig(strategy="mirrored", devices=3, deterministic=True)
scope = prepare(make_plan(training, machine_of_tensorflow()), training)
assert scope.strategy.num_replicas_in_sync == 3
assert len(tf.config.list_logical_devices("CPU")) == 3
from tensorflow.python.framework import config
assert config.is_op_determinism_enabled()
other = TrainingConfig(strategy="mirrored", devices=2)
try:
    prepare(make_plan(other, machine_of_tensorflow()), other)
except SatisficeError as error:
    assert "cannot be set up for it any more" in str(error)
else:
    raise AssertionError
from dataclasses import replace
from components.trainer.strategy import Machine
tpu = TrainingConfig(strategy="tpu")
plan = make_plan(tpu, Machine(2, tpu="local"))
for name, problem, remedy in (
    ("", "nothing says which TPU: Please provide a TPU Name", "Set TPU_NAME"),
    ("local", "built without TPUs, or the machine has none: TPUs not found", "install tensorflow-tpu"),
    ("grpc://127.0.0.1:1", "it cannot be reached: ", "Check TPU_NAME"),
):
    try:
        prepare(replace(plan, tpu=name), tpu)
    except SatisficeError as error:
        assert error.thing == f"TPU {name!r}" and problem in error.problem and remedy in error.remedy, str(error)
    else:
        raise AssertionError(name)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
