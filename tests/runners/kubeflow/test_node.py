"""What a container does with its node, on the tiny pipeline, in this process."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from components.lineage import writer
from components.lineage.reader import Lineage
from runners.kubeflow import node as entry
from runners.kubeflow.job import NodeJob, TellJob, pack
from runners.kubeflow.part import alone, leave_graph
from runners.kubeflow.record import NodeNote, close
from tests.runners.local.desk import Desk
from tests.runners.local.tiny import ORDER, compiled


class Cluster:
    """The tiny pipeline's containers, one after the other, as Kubeflow would start them."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder)
        self.folder = folder

    def job(self, name: str, takes_values: bool = False) -> str:
        packed = base64.b64encode(alone(self.desk.ir, name)).decode()
        told = {"node": name, "folder": str(self.folder), "metadata": self.desk.metadata, "ir": packed}
        return pack(NodeJob(**told, takes_values=takes_values))

    def run(
        self, name: str, run_id: str, takes_values: bool = False, outputs: tuple[str, ...] = ("state",)
    ) -> tuple[int, dict]:
        """Exit code and outputs of a node's container."""
        files = {key: self.folder / run_id / name / key for key in outputs}
        pairs = [word for key, file in files.items() for word in ("--output", key, str(file))]
        code = entry.main(["node", "--name", name, "--run-id", run_id, *pairs, "--job", self.job(name, takes_values)])
        return code, {key: file.read_text() for key, file in files.items() if file.exists()}

    def open(self, run_id: str) -> None:
        writer.open_run(self.desk.store, run_id, 1, "tiny", "{}", "digest", "kubeflow")

    def close(self, run_id: str) -> Any:
        nodes = {node.id: node.upstream for node in self.desk.graph(run_id).nodes}
        close(TellJob(pipeline="tiny", metadata=self.desk.metadata, root=str(self.desk.root), nodes=nodes), run_id)
        lineage = Lineage(self.desk.metadata, "tiny", self.desk.store)
        run = lineage.run(run_id)
        return run, {one.node: one for one in lineage.nodes(run)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("cluster"))


def test_a_node_runs_and_what_conditions_read_comes_out(cluster: Cluster) -> None:
    """Then TFX's own cache answers, in a run of its own."""
    assert cluster.run("Numbers", "first") == (0, {"state": "ran"})
    assert cluster.run("Judge", "first", outputs=("state", "decision_proceed")) == (
        0,
        {"state": "ran", "decision_proceed": "1"},
    )
    assert cluster.run("Fit", "first") == (0, {"state": "ran"})
    assert cluster.run("Champion", "first") == (0, {"state": "ran"})
    assert cluster.run("Numbers", "second") == (0, {"state": "cached"})


def test_what_was_damaged_is_not_used_again(cluster: Cluster, capsys) -> None:
    """TFX's cache looks for the folder alone; here the bytes are looked at, and what they were not is no longer live."""
    cluster.run("Numbers", "before")
    assert cluster.run("Numbers", "as it was") == (0, {"state": "cached"})
    (artifact,) = [one for one in cluster.desk.store.get_artifacts() if "/Numbers/" in one.uri]
    file = next(path for path in sorted(Path(artifact.uri).rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + b"?")
    assert cluster.run("Numbers", "damaged") == (0, {"state": "ran"})
    note = NodeNote(cluster.desk.root, "damaged", "Numbers").read()
    assert note["reason"] == f"what is kept of it is damaged: examples/{file.name} was changed"
    (damaged,) = cluster.desk.store.get_artifacts_by_id([artifact.id])
    assert damaged.state == type(damaged).DELETED
    assert cluster.run("Numbers", "mended") == (0, {"state": "cached"})


def test_what_nobody_knows_the_digests_of_is_not_used_again(cluster: Cluster) -> None:
    """It is left as it is: another store's artifact may have that id."""
    assert cluster.run("Numbers", "known") == (0, {"state": "cached"})
    newest = max(one.id for one in cluster.desk.store.get_artifacts() if "/Numbers/" in one.uri)
    kept = cluster.desk.root / "cache" / "digests" / f"{newest}.json"
    kept.write_text(kept.read_text().replace("/Numbers/", "/Others/"))
    assert cluster.run("Numbers", "unknown") == (0, {"state": "ran"})
    (left,) = cluster.desk.store.get_artifacts_by_id([newest])
    assert left.state == type(left).LIVE


def test_a_container_that_is_started_again_does_nothing_twice(cluster: Cluster) -> None:
    """Of the same run: what has ended well has ended."""
    assert cluster.run("Numbers", "first")[0] == 0
    context = cluster.desk.store.get_context_by_type_and_name("pipeline_run", "first")
    executions = cluster.desk.store.get_executions_by_context(context.id)
    assert len([one for one in executions if "Numbers" in one.type]) == 1


def test_values_of_a_run_go_to_its_nodes(cluster: Cluster, capsys) -> None:
    """Through the graph that the first container leaves; without it nobody knows them, and nothing runs."""
    root = cluster.desk.root
    assert cluster.run("Numbers", "seventh", takes_values=True)[0] == 1
    assert "run seventh: has no graph" in capsys.readouterr().err
    leave_graph(root, "seventh", None)
    assert cluster.run("Numbers", "seventh", takes_values=True) == (0, {"state": "cached"})
    leave_graph(root, "eighth", compiled(root, start=4))
    assert cluster.run("Numbers", "eighth", takes_values=True) == (0, {"state": "ran"})
    execution = Lineage(cluster.desk.metadata, "tiny", cluster.desk.store).executions("eighth")["Numbers"]
    assert execution.custom_properties["start"].int_value == 4


def test_a_node_whose_inputs_are_not_there_fails(cluster: Cluster, capsys) -> None:
    """The launcher returns as if all were well; the container does not."""
    code, outputs = cluster.run("Compare", "third")
    assert (code, outputs) == (1, {})
    assert "node Compare: its inputs could not be resolved" in capsys.readouterr().err


def test_the_run_is_recorded_with_what_ran_and_what_did_not(cluster: Cluster) -> None:
    """A node that failed with its cause, those that needed it as skipped, one that ended without a word as failed."""
    cluster.open("fourth")
    cluster.run("Numbers", "fourth")
    NodeNote(cluster.desk.root, "fourth", "Judge").write("failed", 1.0, "no more disk")
    run, nodes = cluster.close("fourth")
    assert (run.outcome, run.exit_code, run.error) == ("failed", 1, "node Judge: no more disk")
    assert nodes["Numbers"].state == "cached"
    assert (nodes["Fit"].state, nodes["Fit"].reason) == ("skipped", "needs Judge, which failed")
    assert [one for one in ORDER if one not in nodes] == ["Judge"]  # its container never came to an execution


def test_a_killed_container_is_a_failure(cluster: Cluster) -> None:
    """What it had begun is still running in the lineage, and no note of it was left."""
    cluster.open("fifth")
    cluster.run("Numbers", "fifth")
    NodeNote(cluster.desk.root, "fifth", "Numbers").file.unlink()
    run, _ = cluster.close("fifth")
    assert run.outcome == "failed"
    assert "its container ended without a word" in run.error


def test_a_run_that_was_refused_leaves_no_record_and_is_told(cluster: Cluster) -> None:
    note = NodeNote(cluster.desk.root, "sixth", "Begin")
    note.write("failed", 0.0, "the image: holds other libraries")
    page = close(TellJob(pipeline="tiny", metadata=cluster.desk.metadata, root=str(cluster.desk.root)), "sixth")
    assert "refused before anything was run" in page.verdict
    assert "holds other libraries" in page.markdown
    assert "holds other libraries" in page.html


def test_another_job_than_this_version_s_is_one_message(capsys) -> None:
    code = entry.main(["node", "--name", "Gate", "--run-id", "r", "--job", "aGk="])
    assert code == 1
    assert "satisfice compile" in capsys.readouterr().err


def test_metrics_go_where_kubeflow_s_launcher_reads_them(tmp_path) -> None:
    """Into the metadata of its own artifact, whose name and place are kept."""
    given = {"name": "metrics", "uri": "minio://x", "type": {"schemaTitle": "system.Metrics"}}
    output = tmp_path / "out" / "executor_output.json"
    record = {"outputs": {"artifacts": {"metrics": {"artifacts": [given]}}, "outputFile": str(output)}}
    call = entry._Call("Gate", "r", "", {}, {"metrics": tmp_path / "metrics"}, record)
    entry._write_metrics(call, {"auc": 0.9})
    (artifact,) = json.loads(output.read_text())["artifacts"]["metrics"]["artifacts"]
    assert artifact == {**given, "metadata": {"auc": 0.9}}


def test_the_tiny_pipeline_is_what_the_tests_think(tmp_path) -> None:
    """One node alone is smaller than all of them, and the same each time."""
    whole = compiled(tmp_path / "root")
    assert alone(whole, "Fit") == alone(whole, "Fit")
    assert len(alone(whole, "Fit")) < len(whole) / 2
