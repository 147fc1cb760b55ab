"""Makes a `tf.distribute` strategy of a plan, and sets TensorFlow up for it before its first operation.

What serves beside parameter servers begins here as well: it answers the chief until somebody ends it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import Any

import tensorflow as tf

from components.trainer.strategy import Machine, Member, Plan, find_machine
from schemas.config import TrainingConfig
from schemas.errors import SatisficeError, shorten

__all__ = ["Scope", "gathers", "machine_of_tensorflow", "prepare", "serve"]


class Scope:
    """Where a model is built and trained.

    Attributes:
        strategy: of `tf.distribute`; None where there is one replica and nothing to distribute.
        coordinator: hands work to the workers of parameter servers; None under every other strategy.
        workers: how many those are.
    """

    def __init__(self, strategy: Any = None, *, coordinator: Any = None, workers: int = 1) -> None:
        """Take a strategy, or none."""
        self.strategy, self.coordinator, self.workers = strategy, coordinator, workers

    @property
    def replicas(self) -> int:
        """Copies of the model that train in step."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    def __call__(self) -> contextlib.AbstractContextManager[Any]:
        """The block in which variables are made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()


def gathers(strategy: Any) -> bool:
    """Whether replicas bring gradients together by collective operations: several workers do, and several GPUs.

    Args:
        strategy: of `tf.distribute`, or None.
    """
    if strategy is None or isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy is not None
    devices = strategy.extended.worker_devices
    return len(devices) > 1 and any(":GPU:" in device.upper() for device in devices)


def machine_of_tensorflow() -> Machine:
    """What there is to train on, with the GPUs that TensorFlow can use; call it before its first operation."""
    return replace(find_machine(), gpus=len(tf.config.list_physical_devices("GPU")))


def prepare(plan: Plan, training: TrainingConfig) -> Scope:
    """Sets TensorFlow up as a plan says.

    Args:
        plan: for this process.
        training: the configuration's section.

    Raises:
        SatisficeError: TensorFlow has begun already and cannot be set up any more; or it cannot reach the TPU.
    """
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        strategy = _strategy(plan)
        if plan.strategy != "parameter_server":
            return Scope(strategy)
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        return Scope(strategy, coordinator=coordinator, workers=plan.workers)
    except RuntimeError as error:
        raise SatisficeError(
            "training.strategy",
            f"TensorFlow cannot be set up for it any more: {error}",
            expected="a process in which it has run nothing yet",
            got=plan.strategy,
        ) from error


def serve(member: Member, plan: Plan) -> None:
    """Is a worker or a server of parameters for the chief that TF_CONFIG names, until somebody ends this process.

    Args:
        member: that this process is; one that `serves`.
        plan: for this process.
    """
    _set_threads(plan)
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    told = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tf.distribute.Server(
        told.cluster_spec(), job_name=member.role, task_index=member.index, protocol="grpc", start=True
    ).join()


def _set_threads(plan: Plan) -> None:
    if plan.threads:
        tf.config.threading.set_intra_op_parallelism_threads(plan.threads)


def _strategy(plan: Plan) -> Any:
    _set_threads(plan)
    if plan.logical_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(plan.logical_devices)]
        )
    make = {
        "mirrored": _mirrored,
        "central_storage": _central_storage,
        "multi_worker_mirrored": _multi_worker_mirrored,
        "parameter_server": _parameter_server,
        "tpu": _tpu,
    }.get(plan.strategy)
    return make(plan) if make else None


def _devices(plan: Plan) -> list[str]:
    return [f"/{plan.device}:{index}" for index in range(plan.replicas)]


def _mirrored(plan: Plan) -> Any:
    # Between parts of a CPU, the default gathers the gradients of an embedding by a collective operation, which fails at a
    # last batch of another size than the first.
    reduction = tf.distribute.ReductionToOneDevice() if plan.device == "cpu" else None
    return tf.distribute.MirroredStrategy(_devices(plan), cross_device_ops=reduction)


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


def _parameter_server(_: Plan) -> Any:
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    strategy = tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
    if strategy.num_replicas_in_sync != 1:
        raise SatisficeError(
            "training.strategy",
            "a worker beside parameter servers trains on one GPU",
            expected="one GPU that each worker can see",
            got=strategy.num_replicas_in_sync,
            remedy="Start a worker for each GPU, and let it see that one: CUDA_VISIBLE_DEVICES.",
        )
    return strategy


def _tpu(plan: Plan) -> Any:
    os.environ.setdefault("GRPC_FAIL_FAST", "true")  # it would wait for ever where nobody answers
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(plan.tpu)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise _no_tpu(plan.tpu, " ".join(str(error).split())) from error
    return tf.distribute.TPUStrategy(resolver)


def _no_tpu(name: str, said: str) -> SatisficeError:
    """What to do where the resolver fails, by what it says."""
    if "Please provide a TPU Name" in said:
        problem = "nothing says which TPU"
        remedy = "Set TPU_NAME to its name or address; on a TPU VM, to local."
    elif "ConfigureDistributedTPU" in said:
        problem = "this TensorFlow is built without TPUs, or the machine has none"
        remedy = "On a TPU VM install tensorflow-tpu in the version of tensorflow; elsewhere unset TPU_NAME."
    else:
        problem = "it cannot be reached"
        remedy = "Check TPU_NAME, and that this machine reaches the TPU; or write training.strategy: one_device."
    return SatisficeError(f"TPU {name!r}", f"{problem}: {shorten(said, 300)}", remedy=remedy)
