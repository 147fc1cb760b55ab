"""The training cluster of a configuration as files, for whoever reviews, applies or adapts them. Imports no TensorFlow."""

from __future__ import annotations

from components.trainer.cluster import tasks_of
from components.trainer.kubernetes import (
    FAILS_AGAIN,
    OWNER,
    Group,
    job,
    job_set,
    network_policy,
    rbac,
    service,
    train_job,
)
from components.trainer.kubernetes_run import labels_of
from components.trainer.strategy import Machine, make_plan
from schemas.config import PipelineConfig
from schemas.errors import ConfigError, Fault
from serving.deploy.render import File
from serving.deploy.text import as_yaml

__all__ = ["render_training"]

_ACCOUNT = "satisfice-trainer"
_LONGEST = 40


def render_training(config: PipelineConfig, source: str = "configuration") -> dict[str, File]:
    """The manifests of a training: the same texts for the same configuration.

    Args:
        config: of the pipeline.
        source: its name, for messages.

    Returns:
        Files by their path below the output folder.

    Raises:
        ConfigError: the configuration does not train in Kubernetes, or leaves open which account the Trainer node has there.
    """
    training = config.training
    if training.cluster != "kubernetes" or training.kubernetes is None:
        expected = "training: {cluster: kubernetes, strategy: multi_worker_mirrored, workers: 2, kubernetes: {…}}"
        raise ConfigError(source, [Fault("training.cluster", "is not kubernetes", expected, training.cluster)])
    pods = training.kubernetes
    plan = make_plan(training, Machine(1))
    labels = {name: value for name, value in labels_of(config.name, "", "", "").items() if name != OWNER}
    labels.pop("satisfice/run")
    group = Group(
        name=f"{labels['app.kubernetes.io/name'][:_LONGEST].rstrip('-')}-training",
        tasks=tasks_of(plan),
        config=pods,
        work=f"{pods.volume.mount_path}/training/work.json",
        labels=labels,
    )
    kubeflow = config.kubeflow
    account = kubeflow.service_account if kubeflow else _ACCOUNT
    if account is None:  # Kubeflow would run the node under an account of its own choice
        problem = "is not given, and the role must be bound to the account of the Trainer node"
        expected = f"the account of Kubeflow's runs, such as {_ACCOUNT}"
        raise ConfigError(source, [Fault("kubeflow.service_account", problem, expected)])
    namespace = (kubeflow.namespace if kubeflow else None) or pods.namespace
    files = {
        "kubernetes/rbac.yaml": File(
            as_yaml(*rbac(pods.namespace, account, namespace, labels)),
            "the Trainer node's account, and the least that it must be allowed",
        ),
        "kubernetes/network.yaml": File(
            as_yaml(network_policy(group)),
            "nobody but the members reaches the members, whose servers ask nobody who they are",
        ),
        "kubernetes/job.yaml": File(
            as_yaml(service(group), job(group, watched=False)),
            "headless Service and Indexed Job, which goes on without a Trainer node",
        ),
        "rendered_not_run/jobset.yaml": File(as_yaml(job_set(group)), "the same as a JobSet: rendered, not run"),
        "rendered_not_run/trainjob.yaml": File(
            as_yaml(*train_job(group)),
            "the same as a TrainJob of Kubeflow Trainer, with its runtime: rendered, not run",
        ),
    }
    files["README.md"] = File(_readme(config.name, group, files, account), "this list")
    return files


def _readme(pipeline: str, group: Group, files: dict[str, File], account: str) -> str:
    config = group.config
    rows = [f"| `{path}` | {file.about} |" for path, file in sorted(files.items())]
    table = "\n".join(["| file | what it is |", "|---|---|", *rows])
    return f"""# Training {pipeline} in Kubernetes

Rendered by `satisfice deploy render --training`; render again instead of editing.

{table}

## What to apply

    kubectl apply -f kubernetes/rbac.yaml -f kubernetes/network.yaml

The second lets nobody but the members of a training reach them, where the network of the cluster enforces NetworkPolicies.
That is all: the Trainer node, under the account `{account}`, makes a Service and a Job like those of `kubernetes/job.yaml` for each
attempt, watches them, and deletes them. It has to mount the claim `{config.volume.claim}` at `{config.volume.mount_path}`, as the pods do,
with the pipeline root on it. It may create, read, list and delete Jobs, create and delete Services, list and watch pods, read
their logs and list events, in the namespace `{config.namespace}` alone; the pods are given no token.

## By hand

`kubernetes/job.yaml` trains what `{group.work}` says: the file `workers/work.json` that a Trainer node has left in its
`model_run`, copied there. Whatever is lost is replaced pod by pod: a member that has lost another ends by itself (exit code 1)
and begins anew; exit code {FAILS_AGAIN} says that it would fail in the same way again, and ends the Job. `TRAINING_ADDRESSES` (JSON,
HOST:PORT to HOST:PORT) tells a pod how to reach members whose names are not resolved.

## Rendered, not run

`rendered_not_run/` is checked against the schemas of the custom resources and has been run nowhere: JobSet begins the whole
group anew where a member is lost; Kubeflow Trainer has no runtime for TensorFlow, so one comes with the TrainJob.
"""
