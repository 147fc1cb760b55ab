"""Configurations to render, and the tools that judge what was rendered."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from schemas.load import parse_config
from serving.deploy import make_plan, render, write
from tests.serving.store.payloads import publish, saved_model

from serving.store import VersionStore  # isort: skip

NEEDS = {"haproxy": "haproxy", "nginx": "nginx", "promtool": "prometheus", "prometheus": "prometheus"}


@pytest.fixture(scope="session")
def tool():
    """Runs one of the tools; skips, and says so, where it is not installed."""

    def run(name, *arguments, **options):
        require(name)
        return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)

    return run


def require(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends {NEEDS[name]}")


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """A base path with the versions 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("versions")
    store = VersionStore(folder / "models")
    for number in (1, 2, 3):
        publish(store, saved_model(folder / f"model-{number}", f"graph {number}"))
    return store.base_path


def configuration(base_path, serving=None, name="taxi"):
    return parse_config(
        {
            "name": name,
            "data": {"source": {"format": "csv", "path": "data.csv"}, "schema": "schema.pbtxt"},
            "model": {"module": "pipeline.models.taxi", "label": "tips"},
            "training": {"epochs": 1},
            "gates": {"satisfy": [{"metric": "auc", "min": 0.5}]},
            "push": {"serving": {"base_path": str(base_path)}},
            "serving": serving,
        }
    )


def everything(certificates):
    """A section `serving` with every key."""
    return {
        "instances": 3,
        "image": "registry.example/serving:2.20.0",
        "batching": {
            "max_batch_size": 64,
            "batch_timeout_micros": 500,
            "max_enqueued_batches": 50,
            "num_batch_threads": 4,
            "allowed_batch_sizes": [1, 8, 64],
        },
        "labels": {"stable": 1, "canary": 2},
        "canary": {"share": 0.1, "header": "X-User-Id"},
        "listen": {"host": "127.0.0.1", "grpc_port": 18500, "rest_port": 18501, "stats_port": 18404},
        "tls": {
            "key": str(certificates / "server.key"),
            "certificate": str(certificates / "server.pem"),
            "authority": str(certificates / "ca.pem"),
            "server_name": "localhost",
            "client_authority": str(certificates / "ca.pem"),
        },
        "resources": {"cpu": "1500m", "memory": "3Gi"},
        "autoscale": {"max_instances": 8, "cpu_percent": 60},
        "kubernetes": {"namespace": "models", "storage": "20Gi"},
        "monitoring": {"scrape_interval_s": 5, "latency_p99_ms": 12.5, "error_share": 0.02, "hold": "10m"},
    }


def addresses(*ports):
    return [{"grpc": f"127.0.0.1:{grpc}", "rest": f"127.0.0.1:{rest}"} for grpc, rest in ports]


SERVINGS = ("none", "everything", "machines", "tls-machines", "odd-name")


@pytest.fixture(params=SERVINGS)
def rendered(request, versions, certificates, tmp_path):
    """Each kind of deployment: its plan, its files, and the folder in which they are."""
    whole = everything(certificates)
    machines = {key: value for key, value in whole.items() if key not in ("instances", "autoscale", "tls")}
    serving = {
        "none": None,
        "everything": whole,
        "machines": {**machines, "addresses": addresses((28500, 28501), (29500, 29501))},
        "tls-machines": {"tls": whole["tls"], "addresses": addresses((28500, 28501))},
        "odd-name": {"instances": 2, "monitoring": {"scrape_interval_s": 300, "hold": "1s", "latency_p99_ms": 0.01}},
    }[request.param]
    name = "a_model-" + "n" * 50 if request.param == "odd-name" else "taxi"
    plan = make_plan(configuration(versions, serving, name))
    files = render(plan)
    folder = tmp_path / "deployment"
    write(files, folder)
    return plan, files, folder
