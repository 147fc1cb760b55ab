"""The training cluster in Kubernetes, as manifests: a headless Service and an Indexed Job whose pods are its members. Pure.

A Job by itself replaces a pod that is lost and leaves the others, which in a synchronous cluster wait or fail. Watched by
the Trainer node, a Job is one attempt: the first loss that the others cannot do without fails it, all its pods end, and the
next attempt is another Job, whose members have other names. Unwatched, each member that has lost a peer ends by itself
and is replaced, until all are there again and go on from the state that the chief wrote last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from components.trainer.cluster import Task
from schemas.config import KubernetesConfig, VolumeConfig
from schemas.errors import Fault
from serving.deploy.text import cores_of

__all__ = [
    "ADDRESSES",
    "CLUSTER",
    "FAILS_AGAIN",
    "GRACE",
    "OWNER",
    "PERMISSIONS",
    "START_DEADLINE",
    "Group",
    "faults_of_volume",
    "hosts_of",
    "job",
    "job_set",
    "network_policy",
    "rbac",
    "service",
    "task_at",
    "train_job",
]

CLUSTER = "TRAINING_CLUSTER"
"""Variable of a pod: TF_CONFIG's `cluster`, roles in the order of completion indexes."""
ADDRESSES = "TRAINING_ADDRESSES"
"""Variable that no manifest sets: JSON, a member's HOST:PORT to that by which it is reached where names are not resolved."""
START_DEADLINE = "TRAINING_START_DEADLINE_S"
"""Variable of a pod: so long it waits for the names of the others."""
GRACE = "TRAINING_GRACE_S"
"""Variable of a pod: from SIGTERM to SIGKILL."""

FAILS_AGAIN = 42
"""Exit code of a member that would fail in the same way again."""
OWNER = "satisfice/owner"
"""Label: whose pods they are; equal for all attempts of all runs in one pipeline root of one volume."""

PERMISSIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("batch", "jobs", ("create", "delete", "get", "list")),
    ("", "services", ("create", "delete")),
    ("", "pods", ("list", "watch")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""API group, resource and verbs that the Trainer node uses, and no others."""

_CONTAINER = "member"
_COMMAND = ["python", "-m", "components.trainer.pod"]
_USER = 10001
"""Of the image."""
_KEPT_S = 3600
"""So long a Job stays that has ended and whose Trainer node is gone."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - mounted as such, for the processes of one container
_TEMPORARY = "/tmp"  # noqa: S108 - the root file system is read-only

Object = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """One attempt of a training.

    Attributes:
        name: of the Job and of the Service; at most 50 signs, so that the names of pods are DNS labels.
        tasks: the members, in the order of completion indexes.
        config: where they run.
        work: path, on the volume, of the file that says what is trained.
        labels: of every object.
    """

    name: str
    tasks: Sequence[Task]
    config: KubernetesConfig
    work: str
    labels: Mapping[str, str]

    @property
    def selector(self) -> Mapping[str, str]:
        """Labels that its pods have, and no others."""
        return {"satisfice/job": self.name}


def hosts_of(group: Group, prefix: str = "") -> dict[str, list[str]]:
    """TF_CONFIG's `cluster`: each role's members by HOST:PORT, roles in the order of completion indexes.

    Args:
        group: of which.
        prefix: of a pod's host name, before its index; the Job's name where it is empty.
    """
    cluster: dict[str, list[str]] = {}
    for index, task in enumerate(group.tasks):
        host = f"{prefix or group.name}-{index}.{group.name}:{group.config.port}"
        cluster.setdefault(task.role, []).append(host)
    return cluster


def task_at(cluster: Mapping[str, Sequence[str]], index: int) -> tuple[str, int]:
    """Role and index within it of the member with a completion index.

    Raises:
        IndexError: the cluster has no such member.

    >>> task_at({"chief": ["a"], "ps": ["b"], "worker": ["c", "d"]}, 3)
    ('worker', 1)
    """
    return [(role, one) for role, hosts in cluster.items() for one in range(len(hosts))][index]


def faults_of_volume(volume: VolumeConfig, what: str, path: str) -> Iterator[Fault]:
    """What keeps the pods from seeing something.

    Args:
        volume: that they mount.
        what: it is, in words.
        path: of it, for the Trainer node.
    """
    mount = PurePosixPath(volume.mount_path)
    if not PurePosixPath(path).is_relative_to(mount) or ".." in PurePosixPath(path).parts:
        yield Fault(
            "training.kubernetes.volume",
            f"the {what} would not be seen by the pods",
            f"a path below {mount}, where the claim {volume.claim} is mounted: let the pipeline root lie there",
            path,
        )


# --- the Job ----------------------------------------------------------------------------------------------------------


def service(group: Group, owner: Mapping[str, str] | None = None) -> Object:
    """The headless Service by which members find each other, before they are ready.

    Args:
        group: of which.
        owner: `name` and `uid` of the Job with which it goes.
    """
    metadata = _metadata(group)
    if owner:
        reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner["name"], "uid": owner["uid"]}
        metadata["ownerReferences"] = [reference]
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": dict(group.selector),
        "ports": [{"name": "grpc", "port": group.config.port, "targetPort": "grpc"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def job(group: Group, *, watched: bool) -> Object:
    """The Indexed Job.

    Args:
        group: of which.
        watched: whether a Trainer node decides on what is lost; else the Job replaces each pod by itself.
    """
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(group), "spec": _job_spec(group, watched)}


def _job_spec(group: Group, watched: bool, cluster: Mapping[str, Sequence[str]] | None = None) -> Object:
    count, restarts = len(group.tasks), group.config.restarts
    spared = sum(task.spared for task in group.tasks)
    rules: list[Object] = [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [FAILS_AGAIN]},
        }
    ]
    if not watched:  # a machine that is taken away is nobody's failure
        rules.append({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]})
    spec: Object = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimit": (spared if watched else count) * restarts,
        "podFailurePolicy": {"rules": rules},
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": _KEPT_S,
        "template": _template(group, cluster or hosts_of(group)),
    }
    if group.tasks[0].role == "chief":  # those that serve never end by themselves
        spec["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    return spec


def _template(group: Group, cluster: Mapping[str, Sequence[str]]) -> Object:
    config = group.config
    pod: Object = {
        "subdomain": group.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(group, cluster)],
        "volumes": _volumes(config),
    }
    if config.service_account:
        pod["serviceAccountName"] = config.service_account
    if config.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in config.pull_secrets]
    if config.resources.node_selector:
        pod["nodeSelector"] = dict(sorted(config.resources.node_selector.items()))
    if config.resources.tolerations:
        pod["tolerations"] = [one.model_dump(exclude_none=True) for one in config.resources.tolerations]
    return {"metadata": {"labels": _labels(group)}, "spec": pod}


def _container(group: Group, cluster: Mapping[str, Sequence[str]]) -> Object:
    config = group.config
    mounts: list[Object] = [
        {"name": "root", "mountPath": config.volume.mount_path},
        {"name": "temporary", "mountPath": _TEMPORARY},
    ]
    if config.resources.shared_memory is not None:
        mounts.append({"name": "shared-memory", "mountPath": _SHARED_MEMORY})
    mounts += [
        {"name": f"secret-{index}", "mountPath": secret.mount_path, "readOnly": True}
        for index, secret in enumerate(config.secrets)
        if secret.mount_path is not None
    ]
    return {
        "name": _CONTAINER,
        "image": config.image,
        "command": [*_COMMAND],
        "args": [group.work],
        "env": _environment(config, cluster),
        "ports": [{"name": "grpc", "containerPort": config.port}],
        "resources": _resources(config),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _environment(config: KubernetesConfig, cluster: Mapping[str, Sequence[str]]) -> list[Object]:
    """The user's first: what the cluster is made of cannot be overridden."""
    plain = dict(sorted(config.env.items()))
    if config.resources.accelerator is None:
        plain["CUDA_VISIBLE_DEVICES"] = "-1"  # a machine's runtime may show devices that nobody asked for
    if config.resources.cpu is not None:  # TensorFlow counts the machine's cores, not the container's
        plain.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, math.ceil(cores_of(config.resources.cpu)))))
    plain[CLUSTER] = json.dumps(cluster, separators=(",", ":"))
    plain[START_DEADLINE] = str(config.start_deadline_s)
    plain[GRACE] = str(config.grace_s)
    secret = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": one.name, "key": key}}}
        for one in config.secrets
        for variable, key in sorted(one.env.items())
    ]
    return [*secret, *({"name": name, "value": value} for name, value in plain.items())]


def _resources(config: KubernetesConfig) -> Object:
    given = config.resources
    amounts = {name: str(value) for name, value in (("cpu", given.cpu), ("memory", given.memory)) if value is not None}
    if given.accelerator:
        amounts[given.accelerator.type] = str(given.accelerator.count)
    return {"requests": dict(amounts), "limits": dict(amounts)} if amounts else {}


def _volumes(config: KubernetesConfig) -> list[Object]:
    volumes: list[Object] = [
        {"name": "root", "persistentVolumeClaim": {"claimName": config.volume.claim}},
        {"name": "temporary", "emptyDir": {}},
    ]
    if config.resources.shared_memory is not None:
        memory = {"medium": "Memory", "sizeLimit": str(config.resources.shared_memory)}
        volumes.append({"name": "shared-memory", "emptyDir": memory})
    volumes += [
        {"name": f"secret-{index}", "secret": {"secretName": secret.name}}
        for index, secret in enumerate(config.secrets)
        if secret.mount_path is not None
    ]
    return volumes


def _labels(group: Group) -> dict[str, str]:
    return {**group.labels, **group.selector}


def _metadata(group: Group) -> Object:
    return {"name": group.name, "namespace": group.config.namespace, "labels": _labels(group)}


# --- the same for operators that are not everywhere -------------------------------------------------------------------


def job_set(group: Group) -> Object:
    """The same as a JobSet (jobset.x-k8s.io/v1alpha2), which begins the whole group anew where a member is lost."""
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _metadata(group),
        "spec": _job_set_spec(group, "members", {}),
    }


def _job_set_spec(group: Group, name: str, labels: Mapping[str, str]) -> Object:
    cluster = hosts_of(group, f"{group.name}-{name}-0")
    spec = _job_spec(group, True, cluster)
    del spec["ttlSecondsAfterFinished"]  # the JobSet's
    return {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": group.name},
        "failurePolicy": {
            "maxRestarts": group.config.restarts,
            "rules": [{"name": "fails-again", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
        },
        "ttlSecondsAfterFinished": _KEPT_S,
        "replicatedJobs": [
            {"name": name, "replicas": 1, "template": {"metadata": {"labels": {**labels}}, "spec": spec}}
        ],
    }


def train_job(group: Group) -> list[Object]:
    """The same as a TrainJob of Kubeflow Trainer (trainer.kubeflow.org/v1alpha1), and the runtime that it needs.

    Kubeflow has no runtime for TensorFlow; this one is a JobSet whose members make TF_CONFIG for themselves.
    """
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    spec = _job_set_spec(group, "node", step)
    spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["name"] = "node"
    for rule in spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]:
        rule["onExitCodes"]["containerName"] = "node"
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": _metadata(group),
        "spec": {"mlPolicy": {"numNodes": len(group.tasks)}, "template": {"spec": spec}},
    }
    reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": group.name}
    trained = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": _metadata(group),
        "spec": {
            "runtimeRef": reference,
            "trainer": {"image": group.config.image, "numNodes": len(group.tasks)},
        },
    }
    return [runtime, trained]


# --- who may create them, and who may reach them -----------------------------------------------------------------------


def rbac(namespace: str, account: str, account_namespace: str, labels: Mapping[str, str]) -> list[Object]:
    """The account of the Trainer node, and the least that it must be allowed in the namespace of the pods."""
    name = "satisfice-training"
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs in PERMISSIONS
    ]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": account_namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": account_namespace, "labels": dict(labels)},
        },
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        },
    ]


def network_policy(group: Group) -> Object:
    """Only members reach members: TensorFlow's servers ask nobody who they are, and do what they are told.

    At every port, since NCCL takes what is free.

    Args:
        group: whose labels all members of all attempts have, and no other pods.
    """
    members = {"podSelector": {"matchLabels": dict(group.labels)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": group.name, "namespace": group.config.namespace, "labels": dict(group.labels)},
        "spec": {**members, "policyTypes": ["Ingress"], "ingress": [{"from": [members]}]},
    }
