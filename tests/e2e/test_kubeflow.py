"""The compiled pipeline, run: every container as a process, from the wheel alone, on real rows, to a pushed model.

No cluster is needed: `tests.runners.kubeflow.executor` does with the YAML what Kubeflow's backend does. What Kubernetes
adds (pods, volumes, devices) is not run here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.lineage.reader import Lineage
from runners.kubeflow.commands import compiled_of
from runners.kubeflow.compile import compile_settlement
from schemas.load import load_config
from serving import payload
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
            "parameters": ["gates.satisfy.0.min", "gates.approval", "training.epochs", "data.source.path"],
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

    @property
    def lineage(self) -> Lineage:
        config = load_config(self.bench.config).config
        return Lineage(config.metadata, config.name)

    def outcome(self, run: Run) -> str:
        return self.lineage.run(run.id).outcome

    def settle(self, verb: str, run_id: str) -> Run:
        """What `satisfice approve --kubeflow` submits, run."""
        compiled = compile_settlement(self.loaded, verb, run_id, "ada", "looked at it")
        executor = Executor(compiled.text, self.executor.folder, self.python)
        return executor.run()

    @property
    def versions(self) -> list[str]:
        return sorted(path.name for path in self.bench.served.iterdir() if path.name.isdigit())


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


@pytest.fixture(scope="module")
def second(cluster: Cluster, first: Run) -> Run:
    """With a limit that nothing meets, after a byte of what was kept of the statistics was changed."""
    (statistics,) = cluster.lineage.node(first.id, "StatisticsGen").outputs
    file = next(path for path in sorted(Path(statistics.uri).rglob("*")) if path.is_file())
    file.write_bytes(b"?" + file.read_bytes()[1:])
    return cluster.run(gates_satisfy_0_min=0.99999)


def test_the_second_run_is_cached_and_a_block_is_a_block(cluster: Cluster, second: Run) -> None:
    """Nothing is trained again; a limit that was given to the run blocks it, which is neither failure nor success."""
    states = {name: second.tasks[name].parameters["state"] for name in SEEN_BEFORE}
    assert states == {**dict.fromkeys(SEEN_BEFORE, "cached"), "StatisticsGen": "ran"}
    assert second.state == "SUCCEEDED"
    assert second.tasks["Pusher"].parameters["outcome"] == "blocked"
    assert second.tasks["Blocked"].state == "SUCCEEDED"
    assert "is not at least 0.99999" in second.tasks["Blocked"].artifacts["reasons"]
    assert second.tasks["WaitsForApproval"].state == "SKIPPED"
    assert cluster.outcome(second) == "blocked"
    assert cluster.versions == ["1"]


def test_damaged_bytes_are_not_used_again(cluster: Cluster, second: Run) -> None:
    """The run says which file was changed, and the node has made it anew."""
    told = second.tasks["Report"].artifacts["decision"]
    assert "what is kept of it is damaged: statistics/" in told
    assert "was changed" in told


@pytest.fixture(scope="module")
def waits(cluster: Cluster, second: Run) -> Run:
    """A run of another model, which a person has to approve."""
    return cluster.run(gates_approval="required", training_epochs=3)


def test_a_pending_decision_ends_the_run_and_pushes_nothing(cluster: Cluster, waits: Run) -> None:
    """A container cannot wait for a person."""
    assert waits.state == "SUCCEEDED"
    assert waits.tasks["Pusher"].parameters == {"state": "ran", "outcome": "pending"}
    assert waits.tasks["WaitsForApproval"].state == "SUCCEEDED"
    assert waits.tasks["Blocked"].state == "SKIPPED"
    assert (cluster.outcome(waits), cluster.versions) == ("pending", ["1"])


def test_an_approval_is_a_run_of_its_own_that_pushes_what_was_judged(cluster: Cluster, waits: Run) -> None:
    """The bytes that the gates judged, by their digest."""
    settled = cluster.settle("approve", waits.id)
    assert settled.state == "SUCCEEDED", settled.tasks["Approve"].log[-3000:]
    assert "was approved by ada" in settled.tasks["Approve"].log
    decision, push = cluster.lineage.decision(waits.id), cluster.lineage.push_result(waits.id)
    assert (push.outcome, push.version) == ("pushed", 2)
    assert payload.digest(cluster.bench.served / "2") == decision.digest == push.digest
    assert cluster.versions == ["1", "2"]
