"""From configuration and machine to a plan of training: which strategy, how many replicas, how many rows for each.

A pure function; imports no TensorFlow. `components.trainer.scope` makes a `tf.distribute` strategy of the plan.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from schemas.config import TrainingConfig
from schemas.errors import SatisficeError, shorten
from schemas.strategies import CLUSTERS, FLOAT32, precision_of, refused_pair, refused_under

__all__ = ["Machine", "Member", "Plan", "find_machine", "make_plan", "member_of", "plan_line", "with_replicas"]

_GPU = re.compile(r"nvidia\d+")
_BFLOAT16 = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")
"""Flags of processors, x86 and Arm."""
_ROLES = ("chief", "worker", "ps", "evaluator")
_GOOGLE = "0x1ae0"
_TPU_CHIPS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
"""PCI numbers of the TPUs v2 to v7, as JAX tells them from Google's other devices (jax/_src/hardware_utils.py)."""


@dataclass(frozen=True)
class Member:
    """Which member of a cluster this process is, as TF_CONFIG says it.

    Attributes:
        role: `chief`, `worker` or `ps`.
        index: among those of its role.
        counts: members of each role.
    """

    role: str
    index: int
    counts: Mapping[str, int]

    @property
    def workers(self) -> int:
        """Processes that train: a chief of a cluster without parameter servers is one of them."""
        return self.counts.get("worker", 0) + (0 if self.counts.get("ps") else self.counts.get("chief", 0))

    @property
    def name(self) -> str:
        """As `cluster.Task.name`."""
        return f"{self.role}-{self.index}"

    @property
    def is_chief(self) -> bool:
        """Whether it is the one that writes what is kept."""
        return self.role == "chief" or (self.role == "worker" and self.index == 0 and not self.counts.get("chief"))

    @property
    def serves(self) -> bool:
        """Whether it does what the chief sends it, beside parameter servers, and nothing of its own."""
        return bool(self.counts.get("ps")) and self.role != "chief"


@dataclass(frozen=True)
class Machine:
    """What there is to train on.

    Attributes:
        cpus: processors that this process may use.
        gpus: of the machine, as far as they are visible.
        tpu: name or address of a TPU; `local` where its chips are in this machine; "" where there is none.
        bfloat16: whether its processors have instructions for bfloat16.
        member: of a cluster that this process belongs to; None where it belongs to none.
    """

    cpus: int
    gpus: int = 0
    tpu: str = ""
    bfloat16: bool = False
    member: Member | None = None

    def __str__(self) -> str:
        """In words."""
        words = [_count(self.cpus, "CPU"), _count(self.gpus, "GPU") if self.gpus else "no GPU"]
        if self.tpu:
            words.append(f"TPU {self.tpu}")
        if self.member:
            words.append(f"TF_CONFIG: {self.member.role} {self.member.index} of {dict(self.member.counts)}")
        return ", ".join(words)


@dataclass(frozen=True)
class Plan:
    """How a model is trained.

    Attributes:
        strategy: `none` (no `tf.distribute`), or a strategy of the configuration, which is never `auto`.
        asked: what the configuration says.
        found: what there is, in words.
        device: `cpu`, `gpu` or `tpu`.
        replicas: copies of the model that train together.
        logical_devices: into how many the CPU is divided; 0 where it is not.
        per_replica_batch_size: rows of a step for each, the largest share where they do not divide.
        global_batch_size: rows of a step for all.
        workers, parameter_servers: processes; 1 and 0 where there is one process.
        local_cluster: whether the Trainer starts these processes itself.
        threads: of each process, for the operations of a step; 0 leaves it to TensorFlow.
        communication: between workers; "" where there is none.
        tpu: name or address of the TPU; "" where it trains on none.
        reasons: why it came out like this, a sentence each.
        precision: in what layers compute while they train: `float32`, or with float32 weights `bfloat16` or `float16`.
    """

    strategy: str
    asked: str
    found: str
    device: str
    replicas: int
    logical_devices: int
    per_replica_batch_size: int
    global_batch_size: int
    workers: int
    parameter_servers: int
    local_cluster: bool
    threads: int
    communication: str
    tpu: str
    reasons: Sequence[str]
    precision: str = FLOAT32

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the lineage and for `--json`."""
        return {**asdict(self), "reasons": list(self.reasons)}

    def __str__(self) -> str:
        """One line, as `validate` and `show` print it."""
        return plan_line(self.as_dict())


def plan_line(plan: Mapping[str, Any]) -> str:
    """A plan as `Plan.as_dict` gives it, in one line."""
    words = [
        f"{plan['strategy']} on {plan['device']} (asked: {plan['asked']}; found: {plan['found']})",
        f"{_count(plan['replicas'], 'replica')} x {plan['per_replica_batch_size']:,} rows",
    ]
    if plan["workers"] > 1 or plan["parameter_servers"]:
        words.append(_count(plan["workers"], "worker"))
    if plan["parameter_servers"]:
        words.append(_count(plan["parameter_servers"], "parameter server"))
    if plan["communication"]:
        words.append(f"communication {plan['communication']}")
    if plan.get("tpu"):
        words.append(f"TPU {plan['tpu']}")
    if plan.get("precision", FLOAT32) != FLOAT32:
        words.append(f"mixed precision in {plan['precision']}")
    return ", ".join(words)


def make_plan(training: TrainingConfig, machine: Machine) -> Plan:
    """The plan of a training.

    Args:
        training: the configuration's section.
        machine: what there is.

    Raises:
        SatisficeError: the machine has not what was asked for, or the backend cannot do what the machine would choose.
    """
    if training.cluster == "kubernetes" and machine.member is None:
        return _in_pods(training)
    strategy, reasons = _choose(training, machine)
    _check_member(training, strategy, machine.member)
    device = "tpu" if strategy == "tpu" else "gpu" if machine.gpus else "cpu"
    workers, servers = _processes(training, strategy, machine.member)
    replicas, logical = _replicas(training, strategy, machine, workers, reasons)
    _check_batch(training.global_batch_size, replicas)
    if training.communication == "nccl" and not machine.gpus:
        raise SatisficeError(
            "training.communication",
            "NCCL is between GPUs, and there is none",
            got="nccl",
            remedy="Write ring, or auto.",
        )
    local = strategy in CLUSTERS and machine.member is None
    on_gpu = device == "gpu" and not local
    precision = precision_of(training.mixed_precision, "gpu" if on_gpu else "tpu" if device == "tpu" else "cpu")
    reasons += _about(precision, machine, on_cpu=not on_gpu and device != "tpu")
    return Plan(
        strategy=strategy,
        asked=training.strategy,
        found=str(machine),
        device=device,
        replicas=replicas,
        logical_devices=logical,
        per_replica_batch_size=-(-training.global_batch_size // replicas),
        global_batch_size=training.global_batch_size,
        workers=workers,
        parameter_servers=servers,
        local_cluster=local,
        threads=max(1, machine.cpus // workers) if local else 0,
        communication=training.communication if strategy == "multi_worker_mirrored" else "",
        tpu=machine.tpu if strategy == "tpu" else "",
        reasons=tuple(reasons),
        precision=precision,
    )


def _in_pods(training: TrainingConfig) -> Plan:
    """The plan of a cluster in Kubernetes, whatever this machine has; each pod makes its own of what it finds."""
    pods = training.kubernetes
    assert pods is not None  # the configuration says so
    accelerator = pods.resources.accelerator
    servers = max(1, training.parameter_servers) if training.strategy == "parameter_server" else 0
    replicas = 1 if servers else training.workers * (accelerator.count if accelerator else 1)
    _check_batch(training.global_batch_size, replicas)
    count = training.workers + servers + bool(servers)
    given = f" with {accelerator.count} {accelerator.type} each" if accelerator else ""
    return Plan(
        strategy=training.strategy,
        asked=training.strategy,
        found=f"Kubernetes, namespace {pods.namespace}",
        device="gpu" if accelerator else "cpu",
        replicas=replicas,
        logical_devices=0,
        per_replica_batch_size=-(-training.global_batch_size // replicas),
        global_batch_size=training.global_batch_size,
        workers=training.workers,
        parameter_servers=servers,
        local_cluster=False,
        threads=0,
        communication="" if servers else training.communication,
        tpu="",
        reasons=(f"{count} pods of a Job{given}, begun anew {pods.restarts} times at most",),
        precision=precision_of(training.mixed_precision, "gpu" if accelerator else "cpu"),
    )


def with_replicas(plan: Plan, replicas: int) -> Plan:
    """The plan with the number of replicas that a strategy turned out to have: a TPU tells it when it is reached.

    Raises:
        SatisficeError: the batch does not do for them.
    """
    if replicas == plan.replicas:
        return plan
    _check_batch(plan.global_batch_size, replicas)
    return replace(plan, replicas=replicas, per_replica_batch_size=-(-plan.global_batch_size // replicas))


def _check_batch(rows: int, replicas: int) -> None:
    if rows < replicas:
        raise SatisficeError(
            "training.global_batch_size",
            f"leaves some of the {replicas} replicas without a row",
            expected=f"{replicas} at least",
            got=rows,
        )


def _about(precision: str, machine: Machine, *, on_cpu: bool) -> list[str]:
    """What a precision costs on a processor."""
    if precision == FLOAT32 or not on_cpu:
        return []
    if precision == "bfloat16" and machine.bfloat16:
        return ["this CPU has instructions for bfloat16: wide layers may train faster, small ones do not"]
    return [f"this CPU has no instructions for {precision}: training works, and is slower than in {FLOAT32}"]


def find_machine(
    environment: Mapping[str, str] | None = None,
    devices: Path = Path("/dev"),
    pci: Path = Path("/sys/bus/pci/devices"),
    cpuinfo: Path = Path("/proc/cpuinfo"),
) -> Machine:
    """What can be seen of this machine without TensorFlow.

    Args:
        environment: CUDA_VISIBLE_DEVICES, TPU_NAME and TF_CONFIG are read; None for that of this process.
        devices: folder of device files.
        pci: folder of what is attached through PCI, which is where the chips of a TPU machine are.
        cpuinfo: what the kernel says of the processors.

    Raises:
        SatisficeError: TF_CONFIG is there and says nothing sensible.
    """
    environment = os.environ if environment is None else environment
    gpus = sum(1 for file in devices.glob("nvidia*") if _GPU.fullmatch(file.name))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [name for name in visible.split(",") if name.strip() not in ("", "-1")]
        gpus = min(gpus, len(named))
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        gpus=gpus,
        tpu=environment.get("TPU_NAME", "").strip() or ("local" if _has_tpu_chips(pci) else ""),
        bfloat16=_has_bfloat16(cpuinfo),
        member=member_of(environment.get("TF_CONFIG", "")),
    )


def _has_tpu_chips(pci: Path) -> bool:
    return any(
        _number(vendor) == _GOOGLE and _number(vendor.with_name("device")) in _TPU_CHIPS
        for vendor in pci.glob("*/vendor")
    )


def _number(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # a device that has gone since
        return ""


def _has_bfloat16(cpuinfo: Path) -> bool:
    try:
        return bool(_BFLOAT16.search(cpuinfo.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


def member_of(tf_config: str) -> Member | None:
    """What TF_CONFIG says; None where it is empty, or describes a cluster of one worker.

    Raises:
        SatisficeError: it is not what TensorFlow describes.
    """
    if not tf_config.strip():
        return None
    try:
        told = json.loads(tf_config)
        cluster, task = told.get("cluster", {}), told.get("task", {})
        counts = {role: len(cluster[role]) for role in _ROLES if cluster.get(role)}
        role, index = task.get("type", ""), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad_tf_config(f"is not valid: {error}", tf_config) from error
    if not counts or counts == {"worker": 1}:
        return None
    if role not in counts or not 0 <= index < counts[role]:
        raise _bad_tf_config(f"names the task {role or '?'} {index}, which its cluster does not have", tf_config)
    if counts.get("chief", 1) != 1:
        raise _bad_tf_config("has more than one chief", tf_config)
    if counts.get("ps") and not (counts.get("chief") and counts.get("worker")):
        raise _bad_tf_config("has parameter servers without a chief and workers", tf_config)
    return Member(role, index, counts)


def _bad_tf_config(problem: str, got: str) -> SatisficeError:
    return SatisficeError(
        "TF_CONFIG",
        problem,
        expected='{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}',
        got=shorten(got),
        remedy="Correct it, or unset it to let the Trainer start its own processes.",
    )


def _choose(training: TrainingConfig, machine: Machine) -> tuple[str, list[str]]:
    """The strategy, and why."""
    if training.strategy != "auto":
        if training.strategy in CLUSTERS or machine.member is None:
            return training.strategy, _asked_for(training.strategy, machine)
        raise SatisficeError(
            "training.strategy",
            "is for one process, and TF_CONFIG makes this one a member of a cluster",
            expected=" or ".join(CLUSTERS),
            got=training.strategy,
            remedy="Change the strategy, or unset TF_CONFIG.",
        )
    if machine.member:
        strategy = "parameter_server" if machine.member.counts.get("ps") else "multi_worker_mirrored"
        reason = f"TF_CONFIG names a cluster of {dict(machine.member.counts)}"
    elif machine.tpu:
        where = "its chips are in this machine" if machine.tpu == "local" else f"TPU_NAME is {machine.tpu}"
        strategy, reason = "tpu", f"a TPU was found: {where}"
    elif machine.gpus > 1:
        strategy, reason = "mirrored", f"{machine.gpus} GPUs were found"
    else:
        device = "one GPU" if machine.gpus else "no accelerator"
        strategy, reason = "none", f"{device} was found: nothing to distribute to"
    refusal = refused_pair(training.backend, strategy) or refused_under(training, strategy)
    if refusal:
        raise SatisficeError("training.strategy", f"auto chose {strategy} ({reason}), but {refusal.problem}",
                             expected=refusal.expected)  # fmt: skip
    return strategy, [reason, *_asked_for(strategy, machine)]


def _asked_for(strategy: str, machine: Machine) -> list[str]:
    """What is worth knowing of a strategy on this machine; a TPU must be there."""
    if strategy == "parameter_server":
        return ["each worker updates the weights with whole batches of its own: no two runs are alike to the digit"]
    if strategy != "tpu":
        return []
    if not machine.tpu:
        raise SatisficeError(
            "training.strategy",
            "there is no TPU",
            expected="TPU_NAME in the environment, or the chips of a TPU in this machine",
            got="tpu",
            remedy="Run it on a TPU VM, or set TPU_NAME to the name or address of one; else write auto or one_device.",
        )
    return ["how many cores the TPU has is known when it is reached; a batch is divided among them then"]


def _check_member(training: TrainingConfig, strategy: str, member: Member | None) -> None:
    if member is None or strategy not in CLUSTERS:
        return
    servers = member.counts.get("ps", 0)
    if bool(servers) != (strategy == "parameter_server"):
        raise SatisficeError(
            "training.strategy",
            f"TF_CONFIG names {servers or 'no'} parameter servers",
            expected="parameter_server" if servers else "multi_worker_mirrored",
            got=strategy,
        )
    for key, given, default in (
        ("workers", member.workers, 1),
        ("parameter_servers", servers, 0),
    ):
        asked = getattr(training, key)
        if asked not in (default, given):
            raise SatisficeError(
                f"training.{key}",
                "is not what TF_CONFIG says",
                expected=str(given),
                got=asked,
                remedy="Correct one of them, or leave the key out.",
            )


def _processes(training: TrainingConfig, strategy: str, member: Member | None) -> tuple[int, int]:
    """Workers and parameter servers."""
    if strategy not in CLUSTERS:
        return 1, 0
    if member:
        return member.workers, member.counts.get("ps", 0)
    return training.workers, max(1, training.parameter_servers) if strategy == "parameter_server" else 0


def _replicas(
    training: TrainingConfig, strategy: str, machine: Machine, workers: int, reasons: list[str]
) -> tuple[int, int]:
    """Replicas in all, and logical devices that the CPU is divided into."""
    if strategy in CLUSTERS:
        local = machine.gpus if strategy == "multi_worker_mirrored" and machine.member else 1
        if machine.gpus and machine.member is None:
            reasons.append("processes on one machine would share its GPUs: each trains on the CPU; mirrored uses GPUs")
        return (workers * max(1, local), 0) if strategy == "multi_worker_mirrored" else (1, 0)
    if strategy not in ("mirrored", "central_storage"):
        return 1, 0
    asked = training.devices
    if machine.gpus:
        if asked != "auto" and asked > machine.gpus:
            raise SatisficeError(
                "training.devices", "are more GPUs than there are", expected=f"{machine.gpus} at most", got=asked
            )
        return (machine.gpus if asked == "auto" else asked), 0
    if asked == "auto":
        reasons.append("without a GPU there is one device, the CPU; training.devices divides it into more")
        return 1, 0
    reasons.append(f"the CPU is divided into {asked} logical devices, which share its cores: no faster, the same sums")
    return asked, asked if asked > 1 else 0


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
