"""From configuration and machine to a plan: pure, and each choice with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.trainer.strategy import (
    Machine,
    Member,
    Plan,
    find_machine,
    make_plan,
    member_of,
    plan_line,
    with_replicas,
)
from schemas.config import TrainingConfig
from schemas.errors import SatisficeError

TWO_WORKERS = Member("worker", 1, {"worker": 2})
WITH_PS = Member("chief", 0, {"chief": 1, "ps": 1, "worker": 2})


def plan(machine: Machine, **training: Any) -> Plan:
    return make_plan(TrainingConfig.model_validate({"global_batch_size": 256, **training}), machine)


@pytest.mark.parametrize(
    ("machine", "strategy", "replicas", "device"),
    [
        (Machine(2), "none", 1, "cpu"),
        (Machine(8, gpus=1), "none", 1, "gpu"),
        (Machine(8, gpus=4), "mirrored", 4, "gpu"),
        (Machine(8, tpu="node-1"), "tpu", 1, "tpu"),
        (Machine(8, member=TWO_WORKERS), "multi_worker_mirrored", 2, "cpu"),
        (Machine(8, member=WITH_PS), "parameter_server", 1, "cpu"),
    ],
)
def test_auto_follows_the_machine(machine: Machine, strategy: str, replicas: int, device: str) -> None:
    """And says why."""
    found = plan(machine)
    assert (found.strategy, found.replicas, found.device, found.asked) == (strategy, replicas, device, "auto")
    words = {"mirrored": "4 GPUs", "tpu": "a TPU was found: TPU_NAME is node-1", "none": "nothing to distribute to"}
    assert words.get(strategy, "TF_CONFIG names a cluster") in found.reasons[0]


def test_auto_does_not_choose_what_the_backend_cannot_do() -> None:
    """It does not fall back in silence."""
    with pytest.raises(SatisficeError, match=r"auto chose tpu .* but backend: keras3"):
        plan(Machine(8, tpu="node-1"), backend="keras3")
    with pytest.raises(SatisficeError, match=r"auto chose parameter_server .* but deterministic: true"):
        plan(Machine(8, member=WITH_PS), deterministic=True)
    assert plan(Machine(8), deterministic=True, jit_compile=True).strategy == "none"


@pytest.mark.parametrize(
    ("machine", "training", "replicas", "logical", "per_replica"),
    [
        (Machine(2), {"strategy": "one_device"}, 1, 0, 256),
        (Machine(2), {"strategy": "mirrored"}, 1, 0, 256),
        (Machine(2), {"strategy": "mirrored", "devices": 3}, 3, 3, 86),
        (Machine(2, gpus=4), {"strategy": "mirrored"}, 4, 0, 64),
        (Machine(2, gpus=4), {"strategy": "mirrored", "devices": 2}, 2, 0, 128),
        (Machine(2), {"strategy": "central_storage", "devices": 2}, 2, 2, 128),
    ],
)
def test_devices(machine: Machine, training: dict[str, Any], replicas: int, logical: int, per_replica: int) -> None:
    """GPUs where there are some, else parts of the CPU; the largest share of a batch that does not divide."""
    found = plan(machine, **training)
    assert (found.replicas, found.logical_devices, found.per_replica_batch_size) == (replicas, logical, per_replica)
    assert not found.local_cluster


def test_a_local_cluster() -> None:
    """Without TF_CONFIG, the processes share the processors."""
    found = plan(Machine(8), strategy="multi_worker_mirrored", workers=3)
    assert (found.local_cluster, found.workers, found.replicas, found.threads) == (True, 3, 3, 2)
    assert plan(Machine(1), strategy="multi_worker_mirrored", workers=3).threads == 1
    assert "share its GPUs" in plan(Machine(8, gpus=2), strategy="multi_worker_mirrored", workers=2).reasons[0]


def test_a_local_cluster_with_parameter_servers() -> None:
    """One at least; a worker takes whole batches, and no two runs are alike."""
    found = plan(Machine(8), strategy="parameter_server", workers=3)
    assert (found.local_cluster, found.workers, found.parameter_servers, found.threads) == (True, 3, 1, 2)
    assert (found.replicas, found.per_replica_batch_size) == (1, 256)
    assert "no two runs are alike" in found.reasons[0]
    assert str(found).endswith("1 replica x 256 rows, 3 workers, 1 parameter server")
    assert plan(Machine(8), strategy="parameter_server", parameter_servers=2).parameter_servers == 2


def test_a_tpu() -> None:
    """The plan names it; how many replicas it makes is known when it is reached."""
    found = plan(Machine(8, tpu="node-1"), strategy="tpu")
    assert (found.tpu, found.device, found.replicas) == ("node-1", "tpu", 1)
    assert str(found).endswith("1 replica x 256 rows, TPU node-1")
    assert "known when it is reached" in found.reasons[0]
    assert "its chips are in this machine" in plan(Machine(8, tpu="local")).reasons[0]
    assert plan(Machine(8, tpu="local"), strategy="one_device").tpu == ""
    reached = with_replicas(found, 8)
    assert (reached.replicas, reached.per_replica_batch_size) == (8, 32)
    assert with_replicas(found, 1) is found
    with pytest.raises(SatisficeError, match="512 replicas without a row"):
        with_replicas(found, 512)


def test_a_member_of_a_cluster_that_somebody_else_started() -> None:
    """It starts nothing, and leaves the threads alone."""
    found = plan(Machine(8, member=TWO_WORKERS), strategy="multi_worker_mirrored", workers=2)
    assert (found.local_cluster, found.workers, found.threads) == (False, 2, 0)
    assert plan(Machine(8, gpus=2, member=TWO_WORKERS), strategy="multi_worker_mirrored").replicas == 4


@pytest.mark.parametrize(
    ("machine", "training", "message"),
    [
        (Machine(2), {"strategy": "tpu"}, "there is no TPU; expected TPU_NAME in the environment"),
        (Machine(2, gpus=1), {"strategy": "mirrored", "devices": 2}, "are more GPUs than there are; expected 1"),
        (Machine(2), {"strategy": "multi_worker_mirrored", "communication": "nccl"}, "there is none"),
        (Machine(2, gpus=4), {"strategy": "mirrored", "global_batch_size": 3}, "4 replicas without a row"),
        (Machine(2, member=TWO_WORKERS), {"strategy": "mirrored"}, "TF_CONFIG makes this one a member"),
        (Machine(2, member=TWO_WORKERS), {"strategy": "one_device"}, "TF_CONFIG makes this one a member"),
        (Machine(2, member=TWO_WORKERS), {"strategy": "parameter_server"}, "TF_CONFIG names no parameter servers"),
        (Machine(2, member=WITH_PS), {"strategy": "multi_worker_mirrored"}, "TF_CONFIG names 1 parameter servers"),
        (
            Machine(2, member=TWO_WORKERS),
            {"strategy": "multi_worker_mirrored", "workers": 3},
            "is not what TF_CONFIG says; expected 2; got 3",
        ),
    ],
)
def test_what_the_machine_has_not(machine: Machine, training: dict[str, Any], message: str) -> None:
    """It is said before anything begins."""
    with pytest.raises(SatisficeError, match=message):
        plan(machine, **training)


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 8), st.integers(8, 5000))
def test_every_row_has_a_replica(cpus: int, gpus: int, workers: int, batch: int) -> None:
    """The replicas' shares hold a batch, and none is empty."""
    for training in ({"strategy": "multi_worker_mirrored", "workers": workers}, {"strategy": "mirrored"}):
        found = plan(Machine(cpus, gpus), global_batch_size=batch, **training)
        assert found.per_replica_batch_size * found.replicas >= batch
        assert (found.per_replica_batch_size - 1) * found.replicas < batch
        assert found.threads * found.workers <= max(cpus, found.workers)


def test_a_plan_in_words_and_as_json() -> None:
    """The line holds what was asked for and what was found; JSON gives the same line."""
    found = plan(Machine(2), strategy="multi_worker_mirrored", workers=2, communication="ring")
    assert str(found) == (
        "multi_worker_mirrored on cpu (asked: multi_worker_mirrored; found: 2 CPUs, no GPU), 2 replicas x 128 rows, "
        "2 workers, communication ring"
    )
    assert plan_line(json.loads(json.dumps(found.as_dict()))) == str(found)
    assert Plan(**found.as_dict()).as_dict() == found.as_dict()


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "gpus"), [(None, 3), ("", 0), ("-1", 0), ("0,2", 2), ("0,1,2,3,4", 3)])
def test_gpus_are_counted_as_far_as_they_are_visible(visible: str | None, gpus: int, tmp_path: Path) -> None:
    """By their device files, without TensorFlow."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    machine = find_machine(environment, tmp_path, tmp_path)
    assert (machine.gpus, machine.tpu, machine.member) == (gpus, "", None)
    assert machine.cpus >= 1


def test_a_tpu_is_named_by_the_environment(tmp_path: Path) -> None:
    """As TensorFlow's resolver reads it."""
    machine = find_machine({"TPU_NAME": "node-1"}, tmp_path, tmp_path)
    assert (machine.tpu, str(machine)) == (
        "node-1",
        f"{machine.cpus} CPUs, no GPU, TPU node-1".replace("1 CPUs", "1 CPU"),
    )


@pytest.mark.parametrize(
    ("vendor", "device", "tpu"),
    [
        ("0x1ae0", "0x0063", "local"),
        ("0x1ae0", "0x0042", ""),
        ("0x10de", "0x0063", ""),
        ("0x1ae0", None, ""),
    ],
)
def test_the_chips_of_a_tpu_are_seen(vendor: str, device: str | None, tpu: str, tmp_path: Path) -> None:
    """By their PCI numbers: Google's network card is none, and neither is what others make. A name goes before them."""
    folder = tmp_path / "pci" / "0000:00:04.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    if device:
        (folder / "device").write_text(f"{device}\n")
    assert find_machine({}, tmp_path, tmp_path / "pci").tpu == tpu
    assert find_machine({"TPU_NAME": " node-1 "}, tmp_path, tmp_path / "pci").tpu == "node-1"


def config(cluster: Any, kind: Any, index: Any = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


PORTS = ["a:1", "b:2"]


def test_tf_config_makes_a_member() -> None:
    """With the chief that it has; a cluster of one worker is none."""
    first = member_of(config({"worker": PORTS}, "worker"))
    assert first is not None
    assert (first.is_chief, first.workers) == (True, 2)
    second = member_of(config({"worker": PORTS}, "worker", 1))
    assert second is not None
    assert not second.is_chief
    with_chief = member_of(config({"chief": ["c:1"], "worker": PORTS}, "worker"))
    assert with_chief is not None
    assert (with_chief.is_chief, with_chief.workers) == (False, 3)
    with_ps = member_of(config({"chief": ["c:1"], "worker": PORTS, "ps": ["p:1"]}, "chief"))
    assert with_ps is not None
    assert (with_ps.is_chief, with_ps.serves, with_ps.workers) == (True, False, 2)
    for role in ("worker", "ps"):
        server = member_of(config({"chief": ["c:1"], "worker": PORTS, "ps": ["p:1"]}, role))
        assert server is not None
        assert (server.is_chief, server.serves) == (False, True)
    assert not first.serves
    assert member_of("") is None
    assert member_of(config({"worker": ["a:1"]}, "worker")) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not valid"),
        ("[]", "is not valid"),
        (config({"worker": PORTS}, "worker", 2), "names the task worker 2"),
        (config({"worker": PORTS}, "chief"), "names the task chief 0"),
        (config({"worker": PORTS}, "worker", "x"), "is not valid"),
        (config({"chief": PORTS, "worker": PORTS}, "worker"), "more than one chief"),
        (config({"worker": PORTS, "ps": ["p:1"]}, "worker"), "parameter servers without a chief"),
    ],
)
def test_a_tf_config_that_says_nothing_sensible(text: str, problem: str) -> None:
    """It is refused, with an example."""
    with pytest.raises(SatisficeError, match=problem) as caught:
        member_of(text)
    assert caught.value.thing == "TF_CONFIG"
    assert "unset it" in caught.value.remedy


def test_a_cluster_in_kubernetes() -> None:
    """The plan says what the pods will be, whatever this machine has; a pod makes its own."""
    told = {"image": "r/s:1", "volume": {"claim": "c"}, "resources": {"accelerator": {"count": 2}}}
    keys = {"strategy": "multi_worker_mirrored", "workers": 3, "cluster": "kubernetes", "kubernetes": told}
    training = TrainingConfig.model_validate(keys)
    plan = make_plan(training, Machine(2))
    assert (plan.replicas, plan.device, plan.local_cluster, plan.found) == (
        6,
        "gpu",
        False,
        "Kubernetes, namespace default",
    )
    assert plan.reasons == ("3 pods of a Job with 2 nvidia.com/gpu each, begun anew 3 times at most",)
    with pytest.raises(SatisficeError, match="leaves some of the 6 replicas without a row"):
        make_plan(training.model_copy(update={"global_batch_size": 5}), Machine(2))
    served = TrainingConfig.model_validate({**keys, "strategy": "parameter_server", "parameter_servers": 2, "kubernetes": {**told, "resources": {}}})  # fmt: skip
    assert make_plan(served, Machine(2)).reasons == ("6 pods of a Job, begun anew 3 times at most",)
