"""A Kubernetes CronJob that ticks in the place of the loop. The whole run that comes of a tick is in its one pod."""

from __future__ import annotations

from typing import Any

import yaml

from runners.kubeflow.places import in_containers, section_of
from runners.kubeflow.pods import pod_of, unset_variables
from schemas.config import KubeflowConfig, PodConfig, ScheduleConfig, SecretConfig, TrainingConfig, seconds_of
from schemas.cron import Cron
from schemas.errors import ConfigError, Fault
from schemas.load import LoadedConfig

__all__ = ["cron_of", "cronjob"]

_MOST_LETTERS = 52
"""Of the name of a CronJob: Kubernetes appends the time to it."""
_TRAINER = "Trainer"
_USER = 10001
_GRACE_S = 600
"""From SIGTERM to SIGKILL: a run that is told to end saves first, and the next tick goes on with it."""
_LONGEST_S = 7 * 86400


def cronjob(loaded: LoadedConfig, cron: str, overrides: tuple[str, ...]) -> str:
    """The manifest, as YAML.

    The pod has what the sections `kubeflow.resources."*"` and, before it, those of the Trainer say, as it trains; of
    these retries do not count: the next tick goes on with a run that was cut off.

    Args:
        loaded: with the sections `schedule` and `kubeflow`.
        cron: five fields; "" for `schedule.every`.
        overrides: as `--set` took them.

    Raises:
        ConfigError: with what is missing, or is on no volume, or no cron expression can say.
    """
    config, source = loaded.config, str(loaded.file)
    kubeflow, volume = section_of(config, source)
    there = in_containers(loaded)
    name = f"satisfice-{config.name}".replace("_", "-").rstrip("-")
    assert config.schedule is not None, "checked where the watch is made"
    faults = [*_faults(there, kubeflow, volume.mount_path)]
    if len(name) > _MOST_LETTERS:
        expected = f"a name with which {name!r} has at most {_MOST_LETTERS} letters"
        faults.append(Fault("name", "is too long for a CronJob", expected, config.name))
    if faults:
        raise ConfigError(source, faults)
    words = ["satisfice", "watch", str(there.file), "--once"]
    words += [word for override in overrides for word in ("--set", override)]
    pod = _pod(kubeflow, pod_of(kubeflow, _TRAINER), words, token=_asks_kubernetes(config.training, kubeflow))
    return _HEAD + yaml.safe_dump(_document(name, config.schedule, kubeflow, cron, pod), sort_keys=False, width=120)


def cron_of(every: str) -> str:
    """The cron expression that ticks as often as a duration says.

    >>> cron_of("15m"), cron_of("6h"), cron_of("1d")
    ('*/15 * * * *', '0 */6 * * *', '0 0 * * *')

    Raises:
        ConfigError: there is none.
    """
    minutes, rest = divmod(seconds_of(every), 60)
    hours, odd = divmod(minutes, 60)
    if not rest and 1 <= minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
    if not rest and not odd and hours and 24 % hours == 0:
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"
    expected = "minutes that divide an hour, hours that divide a day, or an expression with --cron"
    raise ConfigError("schedule", [Fault("schedule.every", "is no rhythm that cron has", expected, every)])


_HEAD = """# A tick of the schedule: it looks, decides, records, and where it is decided runs the pipeline in this pod.
# A job ends as its tick did: 0 nothing to do or pushed, 3 blocked, 4 waits for approval, 1 failed. None is begun again by
# Kubernetes: the next tick goes on with a run that was cut off.
"""


def _asks_kubernetes(training: TrainingConfig, kubeflow: KubeflowConfig) -> bool:
    """Whether the Trainer node in the pod asks Kubernetes for its members as the pod's account, and by no kubeconfig."""
    pods = training.kubernetes
    given = {*kubeflow.env, *(name for secret in kubeflow.secrets for name in secret.env)}
    asks = training.cluster == "kubernetes" and pods is not None and pods.context is None
    return asks and "KUBECONFIG" not in given


def _faults(there: LoadedConfig, kubeflow: KubeflowConfig, mount: str) -> list[Fault]:
    metadata, schema = there.config.metadata, there.config.data.schema_path
    servers = [one for one in (metadata.mysql, metadata.postgresql) if one is not None]
    faults = list(unset_variables(kubeflow, [one.password_env for one in servers if one.password_env]))
    if not schema.startswith(f"{mount}/"):
        faults.append(
            Fault("data.schema", "is a place of this machine, and on no volume", f"a path in {mount}", schema)
        )
    if _asks_kubernetes(there.config.training, kubeflow) and kubeflow.service_account is None:
        problem = "is missing: with training.cluster: kubernetes the pod asks for others as this account"
        expected = "the account of `satisfice deploy render --training`, or KUBECONFIG in kubeflow.env"
        faults.append(Fault("kubeflow.service_account", problem, expected))
    return faults


def _document(
    name: str, schedule: ScheduleConfig, kubeflow: KubeflowConfig, cron: str, pod: dict[str, Any]
) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "satisfice"}
    place = {"namespace": kubeflow.namespace} if kubeflow.namespace else {}
    job = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": pod_of(kubeflow, _TRAINER).timeout_s or _LONGEST_S,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, **place, "labels": labels},
        "spec": {
            "schedule": _checked(cron) if cron else cron_of(schedule.every),
            "timeZone": "Etc/UTC" if schedule.time_zone == "UTC" else schedule.time_zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": max(seconds_of(schedule.every), 60),
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }


def _checked(cron: str) -> str:
    try:
        Cron.parse(cron)
    except ValueError as error:
        expected = "five fields: minute, hour, day of the month, month, day of the week"
        raise ConfigError(
            "command line", [Fault("--cron", f"is no cron expression: {error}", expected, cron)]
        ) from None
    return cron


def _pod(kubeflow: KubeflowConfig, pod: PodConfig, words: list[str], *, token: bool) -> dict[str, Any]:
    assert kubeflow.volume is not None, "section_of has it"
    account = {"serviceAccountName": kubeflow.service_account} if kubeflow.service_account else {}
    pulls = {"imagePullSecrets": [{"name": name} for name in kubeflow.pull_secrets]} if kubeflow.pull_secrets else {}
    mounts = {kubeflow.volume.mount_path: "satisfice", "/tmp": "temporary"}  # noqa: S108 - an empty directory of the pod
    volumes: list[dict[str, Any]] = [
        {"name": "satisfice", "persistentVolumeClaim": {"claimName": kubeflow.volume.claim}},
        {"name": "temporary", "emptyDir": {}},
    ]
    if pod.shared_memory is not None:
        mounts["/dev/shm"] = "shared-memory"  # noqa: S108
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(pod.shared_memory)}})
    for number, secret in enumerate(one for one in kubeflow.secrets if one.mount_path):
        mounts[str(secret.mount_path)] = f"secret-{number}"
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": secret.name}})
    container = {
        "name": "watch",
        "image": kubeflow.image,
        "command": words,
        **({"env": env} if (env := _env(kubeflow.env, kubeflow.secrets)) else {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **_resources(pod),
        "volumeMounts": [{"name": name, "mountPath": path} for path, name in mounts.items()],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_S,
        **account,
        "automountServiceAccountToken": token,
        **pulls,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"nodeSelector": dict(pod.node_selector)} if pod.node_selector else {}),
        **({"tolerations": tolerations} if (tolerations := _tolerations(pod)) else {}),
        "containers": [container],
        "volumes": volumes,
    }


def _tolerations(pod: PodConfig) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json", exclude_none=True) for one in pod.tolerations]


def _env(given: dict[str, str], secrets: tuple[SecretConfig, ...]) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(given.items())]
    return plain + [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key}}}
        for secret in secrets
        for variable, key in sorted(secret.env.items())
    ]


def _resources(pod: PodConfig) -> dict[str, Any]:
    """Requests and limits, as of a container of Kubeflow's."""
    both = {name: str(value) for name, value in (("cpu", pod.cpu), ("memory", pod.memory)) if value is not None}
    limits = {**both, **({pod.accelerator.type: str(pod.accelerator.count)} if pod.accelerator is not None else {})}
    return {"resources": {"requests": both, "limits": limits}} if limits else {}
