"""Makes a `tf.distribute` strategy of a plan, and sets TensorFlow up for it before its first operation."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import Any

import tensorflow as tf

from components.trainer.strategy import Machine, Plan, find_machine
from schemas.config import TrainingConfig
from schemas.errors import SatisficeError

__all__ = ["Scope", "machine_of_tensorflow", "prepare"]


class Scope:
    """Where a model is built and trained.

    Attributes:
        strategy: of `tf.distribute`; None where there is one replica and nothing to distribute.
    """

    def __init__(self, strategy: Any = None) -> None:
        """Take a strategy, or none."""
        self.strategy = strategy

    def __call__(self) -> contextlib.AbstractContextManager[Any]:
        """The block in which variables are made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()


def machine_of_tensorflow() -> Machine:
    """What there is to train on, with the GPUs that TensorFlow can use; call it before its first operation."""
    return replace(find_machine(), gpus=len(tf.config.list_physical_devices("GPU")))


def prepare(plan: Plan, training: TrainingConfig) -> Scope:
    """Sets TensorFlow up as a plan says.

    Args:
        plan: for this process.
        training: the configuration's section.

    Raises:
        SatisficeError: TensorFlow has begun already and cannot be set up any more.
    """
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        return Scope(_strategy(plan))
    except RuntimeError as error:
        raise SatisficeError(
            "training.strategy",
            f"TensorFlow cannot be set up for it any more: {error}",
            expected="a process in which it has run nothing yet",
            got=plan.strategy,
        ) from error


def _strategy(plan: Plan) -> Any:
    if plan.threads:
        tf.config.threading.set_intra_op_parallelism_threads(plan.threads)
    if plan.logical_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(plan.logical_devices)]
        )
    make = {
        "mirrored": _mirrored,
        "central_storage": _central_storage,
        "multi_worker_mirrored": _multi_worker_mirrored,
    }.get(plan.strategy)
    return make(plan) if make else None


def _devices(plan: Plan) -> list[str]:
    return [f"/{plan.device}:{index}" for index in range(plan.replicas)]


def _mirrored(plan: Plan) -> Any:
    return tf.distribute.MirroredStrategy(_devices(plan))


def _central_storage(plan: Plan) -> Any:
    return tf.distribute.experimental.CentralStorageStrategy(_devices(plan), "/cpu:0")


def _multi_worker_mirrored(plan: Plan) -> Any:
    kinds = tf.distribute.experimental.CommunicationImplementation
    kind = {"auto": kinds.AUTO, "ring": kinds.RING, "nccl": kinds.NCCL}[plan.communication]
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(implementation=kind)
    )
    if strategy.num_replicas_in_sync != plan.replicas:
        raise SatisficeError(
            "training.strategy",
            "the cluster has another number of replicas than was planned",
            expected=str(plan.replicas),
            got=strategy.num_replicas_in_sync,
        )
    return strategy
