"""Configurations for Kubeflow, and what a compiled pipeline holds."""

from __future__ import annotations

from typing import Any

import yaml

from runners.kubeflow.job import NodeJob, unpack
from schemas.load import LoadedConfig, load_config
from tests.workbench import Bench

IMAGE = "registry.example/satisfice:0.1.0"
SECTION: dict[str, Any] = {
    "image": IMAGE,
    "volume": {"claim": "satisfice", "mount_path": "/satisfice", "access": "ReadWriteOnce"},
    "resources": {
        "*": {"retries": 2, "back_off_s": 5},
        "Trainer": {
            "cpu": 2,
            "memory": "4Gi",
            "accelerator": {"count": 1},
            "shared_memory": "1Gi",
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "timeout_s": 3600,
        },
    },
    "secrets": [{"name": "store", "env": {"STORE_PASSWORD": "password"}}, {"name": "keys", "mount_path": "/keys"}],
    "env": {"LEVEL": "high"},
    "pull_secrets": ["registry"],
    "parameters": ["training.epochs", "training.seed", "data.source.path"],
}


def on_kubeflow(bench: Bench, section: dict[str, Any] | None = None) -> LoadedConfig:
    """The bench's configuration with a section for Kubeflow."""
    bench.edit(lambda raw: raw.update(kubeflow=section or SECTION))
    return load_config(bench.config)


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification, and what Kubernetes has to do for it."""
    spec, platform = yaml.safe_load_all(text)
    return spec, platform


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every container's task by the name that Kubeflow's page shows."""
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    found = [task for dag in dags for task in dag["tasks"].values()]
    return {
        one["taskInfo"]["name"]: one for one in found if "dag" not in spec["components"][one["componentRef"]["name"]]
    }


def container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The container of a task."""
    label = spec["components"][tasks(spec)[name]["componentRef"]["name"]]["executorLabel"]
    return spec["deploymentSpec"]["executors"][label]["container"]


def job_of(spec: dict[str, Any], name: str) -> NodeJob:
    """What a node's container is told."""
    args = container(spec, name)["args"]
    return unpack(NodeJob, args[args.index("--job") + 1])


def without_jobs(text: str) -> str:
    """The compiled text without what changes with the code and the libraries."""
    parts = list(yaml.safe_load_all(text))
    for executor in parts[0]["deploymentSpec"]["executors"].values():
        args = executor["container"]["args"]
        args[args.index("--job") + 1] = "(job)"
    return yaml.safe_dump_all(parts, sort_keys=True, width=120)
