"""Which Keras can train under which strategy, and which keys a strategy reads: what fails or is wrong in silence is refused.

The reasons come from trials with TensorFlow 2.21, Keras 3.15 and tf_keras 2.21.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "CLUSTERS",
    "FLOAT32",
    "STRATEGIES",
    "Refusal",
    "precision_of",
    "refused_pair",
    "refused_setting",
    "refused_under",
]

STRATEGIES = (
    "auto",
    "one_device",
    "mirrored",
    "central_storage",
    "multi_worker_mirrored",
    "parameter_server",
    "tpu",
)
CLUSTERS = ("multi_worker_mirrored", "parameter_server")
"""Those that train in several processes."""
FLOAT32 = "float32"

_OF_KERAS3 = {"tpu": "is not tried"}


@dataclass(frozen=True)
class Refusal:
    """Why settings do not go together.

    Attributes:
        problem: in words, with the keys that clash.
        expected: what to write instead.
    """

    problem: str
    expected: str


def precision_of(mixed_precision: bool | str, device: str) -> str:
    """In what layers compute while they train: `float32`, `bfloat16` or `float16`.

    >>> precision_of(True, "gpu"), precision_of(True, "cpu"), precision_of("float16", "cpu"), precision_of(False, "gpu")
    ('float16', 'bfloat16', 'float16', 'float32')
    """
    if isinstance(mixed_precision, str):
        return mixed_precision
    return ("float16" if device == "gpu" else "bfloat16") if mixed_precision else FLOAT32


def refused_pair(backend: str, strategy: str) -> Refusal | None:
    """Why a backend cannot train under a strategy; None where it can."""
    why = _OF_KERAS3.get(strategy) if backend == "keras3" else None
    if why is None:
        return None
    can = [name for name in STRATEGIES if name not in _OF_KERAS3]
    return Refusal(
        f"backend: keras3 with strategy: {strategy} {why}",
        f"backend: tf_keras, or one of the strategies {', '.join(can)}",
    )


def refused_setting(training: Any) -> Refusal | None:
    """Why the settings of a `TrainingConfig` do not go together; None where they do.

    A key that the strategy would not read is refused, so that nobody believes in it.
    """
    strategy = training.strategy
    return (
        refused_pair(training.backend, strategy)
        or _unread(training)
        or _cluster(training)
        or _too_few(training)
        or refused_under(training, strategy)
    )


def _unread(training: Any) -> Refusal | None:
    strategy = training.strategy
    read_by = {
        "workers": (1, CLUSTERS),
        "parameter_servers": (0, ("parameter_server",)),
        "devices": ("auto", ("mirrored", "central_storage")),
        "communication": ("auto", ("multi_worker_mirrored",)),
    }
    for key, (default, readers) in read_by.items():
        if getattr(training, key) != default and strategy not in readers:
            return Refusal(
                f"{key}: {getattr(training, key)} is given, which strategy: {strategy} does not read",
                f"strategy: {' or '.join(readers)}, or {key} left out",
            )
    return None


def _cluster(training: Any) -> Refusal | None:
    """What a cluster in Kubernetes asks of the other keys."""
    if training.cluster == "local":
        return None
    strategy, pods = training.strategy, training.kubernetes
    if strategy not in CLUSTERS:
        return Refusal(
            f"cluster: {training.cluster} is given with strategy: {strategy}, which trains in one process",
            f"strategy: {' or '.join(CLUSTERS)}, or cluster: local",
        )
    if strategy == "multi_worker_mirrored" and training.workers < 2:
        return Refusal(
            f"cluster: {training.cluster} with workers: 1 is a cluster of one member",
            "workers: 2 at least, or cluster: local",
        )
    if pods is None:
        return Refusal(
            f"cluster: {training.cluster} is given, and nothing says where",
            "kubernetes: {image: REGISTRY/NAME:TAG, volume: {claim: NAME}} beside it",
        )
    return _devices_of_pods(training)


def _devices_of_pods(training: Any) -> Refusal | None:
    accelerator = training.kubernetes.resources.accelerator
    if accelerator and "tpu" in accelerator.type:
        return Refusal(
            f"kubernetes.resources.accelerator.type: {accelerator.type} with strategy: {training.strategy}, which does not "
            "train on TPUs",
            "strategy: tpu on a TPU VM, or GPUs",
        )
    if training.strategy == "parameter_server" and accelerator and accelerator.count > 1:
        return Refusal(
            f"kubernetes.resources.accelerator.count: {accelerator.count} with strategy: {training.strategy}, whose workers "
            "train on one device each",
            "count: 1, and more workers",
        )
    if training.communication == "nccl" and not accelerator:
        return Refusal(
            "communication: nccl is between GPUs, and no pod asks for one", "kubernetes.resources.accelerator beside it"
        )
    return None


def _too_few(training: Any) -> Refusal | None:
    replicas = training.workers if training.strategy == "multi_worker_mirrored" else training.devices
    if isinstance(replicas, int) and training.global_batch_size < replicas:
        return Refusal(
            f"global_batch_size: {training.global_batch_size} leaves some of {replicas} replicas without a row",
            f"global_batch_size: {replicas} at least",
        )
    return None


def refused_under(training: Any, strategy: str) -> Refusal | None:
    """Why other keys of a `TrainingConfig` do not go with a strategy, which `auto` may have chosen; None where they do."""
    if training.jit_compile and strategy not in ("auto", "none", "one_device"):
        return Refusal(f"jit_compile: true is not tried with strategy: {strategy}", "strategy: auto or one_device")
    if training.deterministic and strategy == "parameter_server":
        return Refusal(
            "deterministic: true with strategy: parameter_server cannot be: workers update the weights in whatever order "
            "they come",
            "deterministic: false, or strategy: multi_worker_mirrored",
        )
    scaled = training.mixed_precision in (True, "float16") and training.strategy in (
        "central_storage",
        "parameter_server",
    )
    if scaled:
        return Refusal(
            f"mixed_precision: {str(training.mixed_precision).lower()} with strategy: {training.strategy}: float16 needs its "
            "loss scaled, which is not done where variables are not on every device",
            "mixed_precision: bfloat16 or false",
        )
    if training.checkpoint_every_steps and training.strategy == "parameter_server":
        return Refusal(
            f"checkpoint_every_steps: {training.checkpoint_every_steps} with strategy: parameter_server: its workers are each "
            "at a step of their own, and the state is kept after each epoch",
            "checkpoint_every_steps left out",
        )
    return None
