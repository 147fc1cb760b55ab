"""What a container gets from Kubernetes: resources, devices, volumes, secrets, retries, a time limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kfp import kubernetes

from schemas.config import KubeflowConfig, PodConfig, VolumeConfig
from schemas.errors import ConfigError, Fault, close_match, shorten

__all__ = ["EVERY", "dress", "pod_of", "refuse_unknown_nodes"]

EVERY = "*"
_BACK_OFF_MOST_S = 3600
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - mounted as such, for the processes of one container


def refuse_unknown_nodes(config: KubeflowConfig, nodes: Iterable[str], source: str) -> None:
    """Refuses resources for what is no node.

    Raises:
        ConfigError: with every fault that was found.
    """
    known = [*nodes, EVERY]
    faults = [
        Fault(
            f"kubeflow.resources.{name}",
            "is no node of this pipeline",
            ", ".join(known),
            name,
            close_match(name, known),
        )
        for name in config.resources
        if name not in known
    ]
    if faults:
        raise ConfigError(source, faults)


def pod_of(config: KubeflowConfig, node: str) -> PodConfig:
    """What a node's container gets: what is for every one, and in its place what is for this one."""
    given: dict[str, Any] = {}
    for name in (EVERY, node):
        if name in config.resources:
            given.update(config.resources[name].model_dump(mode="json", exclude_defaults=True))
    return PodConfig.model_validate(given, strict=False)


def dress(
    task: Any, node: str, config: KubeflowConfig, volume: VolumeConfig, retries: int, *, works: bool = True
) -> None:
    """Gives a task what its container needs.

    Args:
        task: a kfp PipelineTask.
        node: its id, for the resources and for messages.
        config: the section.
        volume: of the section.
        retries: attempts after the first, where the section says nothing.
        works: whether it runs a node; what only checks or tells needs no device.

    Raises:
        ConfigError: a quantity is none that Kubernetes takes.
    """
    pod = pod_of(config, node)
    kubernetes.mount_pvc(task, pvc_name=volume.claim, mount_path=volume.mount_path)
    for name, value in sorted(config.env.items()):
        task.set_env_variable(name, value)
    _secrets(task, config)
    try:
        _resources(task, pod, works=works)
    except (ValueError, TypeError) as error:
        fault = Fault(
            f"kubeflow.resources.{node}", shorten(str(error)), "quantities as Kubernetes has them: 4, '500m', '8Gi'"
        )
        raise ConfigError("kubeflow", [fault]) from error
    if pod.node_selector:
        for key, value in sorted(pod.node_selector.items()):
            kubernetes.add_node_selector(task, key, value)
    for toleration in pod.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    attempts = pod.retries if pod.retries is not None else retries
    if attempts:
        task.set_retry(
            num_retries=attempts,
            backoff_duration=f"{pod.back_off_s}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{_BACK_OFF_MOST_S}s",
        )
    if pod.timeout_s is not None:
        kubernetes.set_timeout(task, pod.timeout_s)


def _resources(task: Any, pod: PodConfig, *, works: bool) -> None:
    if pod.cpu is not None:
        task.set_cpu_request(str(pod.cpu)).set_cpu_limit(str(pod.cpu))
    if pod.memory is not None:
        task.set_memory_request(str(pod.memory)).set_memory_limit(str(pod.memory))
    if pod.accelerator is not None and works:
        task.set_accelerator_type(pod.accelerator.type).set_accelerator_limit(pod.accelerator.count)
    if pod.shared_memory is not None and works:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path=_SHARED_MEMORY,
            medium="Memory",
            size_limit=str(pod.shared_memory),
        )


def _secrets(task: Any, config: KubeflowConfig) -> None:
    for secret in config.secrets:
        for variable, key in sorted(secret.env.items()):
            kubernetes.use_secret_as_env(task, secret_name=secret.name, secret_key_to_env={key: variable})
        if secret.mount_path is not None:
            kubernetes.use_secret_as_volume(task, secret_name=secret.name, mount_path=secret.mount_path)
    if config.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(config.pull_secrets))


def unset_variables(config: KubeflowConfig, needed: Iterable[str]) -> Iterator[Fault]:
    """Variables that the containers need, and that neither `env` nor a secret sets."""
    known = {*config.env, *(name for secret in config.secrets for name in secret.env)}
    for name in needed:
        if name not in known:
            expected = f"secrets: [{{name: SECRET, env: {{{name}: KEY}}}}]"
            yield Fault("kubeflow.secrets", f"the containers need the variable {name}, which nothing sets", expected)
