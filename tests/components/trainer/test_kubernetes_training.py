"""Training in Kubernetes with real pods' processes: their command line and environment as the manifest has them, on real rows."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.run import run_fn
from tests.components.trainer.cluster_api import kill_member, serving
from tests.components.trainer.tiny import SCHEMA, example, write_raw, write_transform_output
from tests.components.trainer.trials import arguments

pytestmark = pytest.mark.slow

ROWS, HELD_OUT, EPOCHS = 404, 107, 16
TRAINING = {
    "global_batch_size": 50,
    "epochs": EPOCHS,
    "steps_per_execution": 1,
    "checkpoint_every_steps": 2,
}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    data = folder / "rows"
    data.mkdir()
    write_transform_output(data)
    write_raw(data / "Split-train" / "part-0", [index % 40 for index in range(ROWS)])
    write_raw(data / "Split-validate" / "part-0", [index % 40 for index in range(HELD_OUT)])
    (data / "schema.pbtxt").write_text(SCHEMA)
    return folder


def train(volume: Path, folder: Path, **training: Any) -> None:
    """What the Trainer node does."""
    run_fn(arguments(volume / "rows", folder, {**TRAINING, **training}))


def answers(folder: Path) -> Any:
    """Of the exported model, on the validation rows."""
    loaded = tf.saved_model.load(str(folder / "Format-Serving"))
    examples = tf.constant([example(index % 40) for index in range(HELD_OUT)])
    return loaded.signatures["serving_examples"](examples=examples)["outputs"].numpy()


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "training.json").read_text())
    return found


def kept(folder: Path, training: Future[None]) -> None:
    """Waits until the state of the training is kept for the first time."""
    deadline = time.monotonic() + 240
    while not list(folder.glob(".resume-*/state.npz")):
        assert not training.done(), training.exception()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pods_train_what_one_device_does(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so what a cluster on this machine does. A member is killed under way, and the group begins anew as another Job: the
    same curve, and the same model, all the same.
    """
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    here, there = volume / "here", volume / "there"
    told = {"image": "registry/satisfice:1", "volume": {"claim": "satisfice", "mount_path": str(volume)}}
    asked = {"strategy": "multi_worker_mirrored", "workers": 2, "cluster": "kubernetes", "kubernetes": told}
    with serving(tmp_path) as cluster, ThreadPoolExecutor(1) as pool:
        pods = pool.submit(train, volume, there, **asked)
        kept(there, pods)
        kill_member(cluster, 1)
        train(volume, here, strategy="one_device")
        pods.result(300)
        assert [body["kind"] for body in cluster.bodies] == ["Job", "Service"] * 2
        assert not cluster.of("jobs") + cluster.of("pods") + cluster.of("services")
    expected, found = record(here), record(there)
    assert (found["restarts"], found["replaced"]) == (1, 0)
    assert found["resumed_at_epoch"] + found.get("resumed_at_step", 0) > 0
    assert found["plan"]["replicas"] == 2
    assert found["history"]["loss"] == pytest.approx(expected["history"]["loss"], abs=1e-3)
    assert found["history"]["val_loss"] == pytest.approx(expected["history"]["val_loss"], abs=1e-3)
    assert np.max(np.abs(answers(there) - answers(here))) < 1e-3
    assert sorted(found["cpu_utilisation"]) == ["worker-0", "worker-1"]
    logs = {log.stem: log.read_text() for log in (there / "run" / "workers").glob("*.log")}
    assert sorted(logs) == ["worker-0", "worker-1"]
    for name, text in logs.items():
        assert text.count("--- pod") == text.count(f"{name} of 2 members") == 2
    assert sorted(path.name for path in there.iterdir()) == ["Format-Serving", "run"]
