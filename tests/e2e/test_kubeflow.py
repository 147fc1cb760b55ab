"""The compiled pipeline, run: every container as a process, from the wheel alone, on real rows, to a pushed model.

No cluster is needed: `tests.runners.kubeflow.executor` does with the YAML what Kubeflow's backend does. What Kubernetes
adds (pods, volumes, devices) is not run here.
"""

from __future__ import annotations

import pytest

from components.lineage.reader import Lineage
from runners.kubeflow.commands import compiled_of
from schemas.load import load_config
from tests.runners.kubeflow.executor import Executor, Run
from tests.runners.kubeflow.image import make_image
from tests.workbench import Bench, satisfice, taxi_bench

pytestmark = pytest.mark.slow

SEEN_BEFORE = ("CuratedSchema", "ExampleGen", "StatisticsGen", "Transform", "Trainer")


class Cluster:
    """A folder that is the volume as well, an image, and the pipeline compiled for both."""

    def __init__(self, folder) -> None:
        self.bench: Bench = taxi_bench(folder / "volume", rows=800)
        section = {
            "image": "registry.example/satisfice:0.1.0",
            "volume": {"claim": "satisfice", "mount_path": str(self.bench.folder), "access": "ReadWriteOnce"},
            "parameters": ["gates.satisfy.0.min", "data.source.path"],
        }
        self.bench.edit(lambda raw: raw.update(kubeflow=section))
        self.bench.edit(lambda raw: raw["training"].update(epochs=2))
        self.python = make_image(folder)
        self.loaded, compiled = compiled_of(self.bench.config, [])
        self.executor = Executor(compiled.text, folder / "runs", self.python)

    def run(self, **arguments) -> Run:
        run = self.executor.run(**arguments)
        failed = [task for task in run.tasks.values() if task.state == "FAILED"]
        assert not failed, "\n".join(f"{task.name}: {task.log[-3000:]}" for task in failed)
        return run

    def outcome(self, run: Run) -> str:
        config = load_config(self.bench.config).config
        return Lineage(config.metadata, config.name).run(run.id).outcome


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("kubeflow"))


def test_what_is_refused_runs_nothing_and_is_told(cluster: Cluster) -> None:
    """Data that is not on the volume: one container says so, no other runs but the last one, and no run is recorded."""
    run = cluster.executor.run(data_source_path="/nowhere/data.csv")
    assert run.state == "FAILED"
    states = {name: task.state for name, task in run.tasks.items()}
    assert {name for name, state in states.items() if state != "OMITTED"} == {"Begin", "Report"}
    assert (states["Begin"], states["Report"]) == ("FAILED", "SUCCEEDED")
    assert "data.source.path: there is no folder /nowhere" in run.tasks["Begin"].log
    told = run.tasks["Report"].artifacts["decision"]
    assert "refused before anything was run" in told
    assert "there is no folder /nowhere" in told
    config = load_config(cluster.bench.config).config
    assert Lineage(config.metadata, config.name).runs() == []


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Run:
    return cluster.run()


def test_the_first_run_pushes_version_1(cluster: Cluster, first: Run) -> None:
    """With the gate's table, the metrics and the decision where Kubeflow's page looks for them."""
    assert first.state == "SUCCEEDED"
    assert first.tasks["Pusher"].parameters == {"state": "ran", "outcome": "pushed"}
    assert (cluster.bench.served / "1" / "saved_model.pb").is_file()
    gate = first.tasks["Gate"]
    assert "| pass | auc |" in gate.artifacts["gates"]
    assert gate.artifacts["gates_page"].startswith("<!doctype html>")
    assert 0.6 < gate.metadata["metrics"]["auc"] <= 1
    assert "pushed, version 1" in first.tasks["Report"].artifacts["decision"]
    assert {name for name, task in first.tasks.items() if task.state == "SKIPPED"} == {
        "Blocked",
        "WaitsForApproval",
        "DataBlocked",
    }


def test_the_commands_that_read_know_the_run(cluster: Cluster, first: Run) -> None:
    """A run on Kubeflow stands in the lineage like any other."""
    assert cluster.outcome(first) == "pushed"
    shown = satisfice("show", first.id, cluster.bench.config, "--json").json
    assert (shown["run"]["runner"], shown["run"]["outcome"]) == ("kubeflow", "pushed")
    assert {node["node"]: node["state"] for node in shown["nodes"]}["Trainer"] == "ran"


def test_the_second_run_is_cached_and_a_block_is_a_block(cluster: Cluster, first: Run) -> None:
    """Nothing is trained again; a limit that was given to the run blocks it, which is neither failure nor success."""
    second = cluster.run(gates_satisfy_0_min=0.99999)
    states = {name: second.tasks[name].parameters["state"] for name in SEEN_BEFORE}
    assert states == dict.fromkeys(SEEN_BEFORE, "cached")
    assert second.state == "SUCCEEDED"
    assert second.tasks["Pusher"].parameters["outcome"] == "blocked"
    assert second.tasks["Blocked"].state == "SUCCEEDED"
    assert "is not at least 0.99999" in second.tasks["Blocked"].artifacts["reasons"]
    assert second.tasks["WaitsForApproval"].state == "SKIPPED"
    assert cluster.outcome(second) == "blocked"
    assert [path.name for path in cluster.bench.served.iterdir() if path.name.isdigit()] == ["1"]
