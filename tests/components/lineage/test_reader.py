"""Questions to the lineage, asked of a store that is written by hand and of the small pipeline's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import any_pb2, struct_pb2
from ml_metadata.proto import metadata_store_pb2 as pb

from components.lineage import writer
from components.lineage.reader import RECORD_PROPERTY, Lineage
from schemas.config import MetadataConfig, SqliteConfig
from schemas.decision import DataDecision, Decision, PushResult
from schemas.errors import MetadataError
from tests.components.lineage.ledger import Event, Execution, Ledger
from tests.workbench import Bench

RUN = "20261101-120000-ab12"


def begin(ledger: Ledger, run_id: str, started_ms: int, pipeline: str = "taxi") -> int:
    return writer.open_run(ledger.store, run_id, started_ms, pipeline, "{}", "", "local")


def sqlite(path: Path) -> MetadataConfig:
    return MetadataConfig(sqlite=SqliteConfig(path=str(path)))


def test_where_nothing_has_run_there_is_nothing_to_tell(ledger: Ledger) -> None:
    """A store without a single run is no error; asking for a run is."""
    lineage = ledger.lineage()
    assert lineage.runs() == []
    assert lineage.executions(RUN) == {}
    assert lineage.node(RUN, "Trainer") is None
    with pytest.raises(MetadataError, match="run 'latest': is not among the 0 runs of pipeline 'taxi'"):
        lineage.run("latest")


def test_runs_of_the_pipeline_the_newest_first(ledger: Ledger) -> None:
    """By when they began and not by when they were written down; other pipelines in the same store are left out."""
    for run_id, started in (("b", 2_000), ("c", 3_000), ("a", 1_000), ("a2", 1_000)):
        begin(ledger, run_id, started)
    begin(ledger, "z", 9_000, pipeline="penguin")
    assert [run.run_id for run in ledger.lineage().runs()] == ["c", "b", "a2", "a"]
    assert ledger.lineage().run("latest").run_id == "c"
    assert [run.run_id for run in ledger.lineage("penguin").runs()] == ["z"]


def test_a_run_that_did_not_end(ledger: Ledger) -> None:
    """It says so, has no exit code, and lasts until it was last heard of."""
    execution = begin(ledger, RUN, 1_000)
    (stored,) = ledger.store.get_executions_by_id([execution])
    run = ledger.lineage().run(RUN)
    assert (run.outcome, run.exit_code, run.skipped) == ("unfinished", None, {})
    assert run.ended_ms == stored.last_update_time_since_epoch
    assert run.seconds == pytest.approx((run.ended_ms - 1_000) / 1000)


def test_what_a_list_of_runs_shows(ledger: Ledger) -> None:
    """Every field but the bulky ones, and how long it took."""
    writer.close_run(ledger.store, begin(ledger, RUN, 1_000), "blocked", 3, [])
    run = ledger.lineage().run(RUN)
    summary = run.summary()
    assert set(summary) == {
        "run_id", "pipeline", "outcome", "exit_code", "started_ms", "ended_ms", "runner", "user", "host",
        "config_digest", "error", "seconds", "spans", "missing_spans",
    }  # fmt: skip
    assert (summary["run_id"], summary["outcome"], summary["exit_code"]) == (RUN, "blocked", 3)
    assert summary["seconds"] == round(run.seconds, 3)


def test_spans_of_a_run(ledger: Ledger) -> None:
    """Those of the examples that ExampleGen put out; a run whose data have none, or that came to none, tells nothing."""
    lineage = ledger.lineage()
    assert (lineage.spans(RUN), lineage.data_of(RUN)) == ({}, "")
    node = ledger.execution(RUN, "ExampleGen")
    told = {"spans": "1, 3", "missing_spans": "2", "input_fingerprint": "f"}
    ledger.artifact(node, "examples", "Examples", told)
    assert lineage.spans(RUN) == {"spans": "1, 3", "missing_spans": "2"}
    assert lineage.data_of(RUN) == "f"
    writer.close_run(ledger.store, begin(ledger, RUN, 1_000), "pushed", 0, [], spans=lineage.spans(RUN))
    run = lineage.run(RUN)
    assert (run.spans, run.missing_spans) == ("1, 3", "2")


def test_a_run_by_its_beginning(ledger: Ledger) -> None:
    """Where it is the only one that begins so; a whole id always means itself."""
    for started, run_id in enumerate(("20261101-1", "20261101-12", "20261102-1")):
        begin(ledger, run_id, started)
    lineage = ledger.lineage()
    assert lineage.run("20261102").run_id == "20261102-1"
    assert lineage.run("20261101-1").run_id == "20261101-1"
    with pytest.raises(MetadataError) as caught:
        lineage.run("20261101")
    assert str(caught.value) == "run '20261101': 2 runs begin so. Give more of its id."


def test_a_run_that_is_not_there(ledger: Ledger) -> None:
    """The message has the nearest one, or none where none is near, and says how many there are."""
    begin(ledger, RUN, 1_000)
    with pytest.raises(MetadataError) as caught:
        ledger.lineage().run("20261101-120000-ab13")
    assert str(caught.value) == (
        "run '20261101-120000-ab13': is not among the 1 runs of pipeline 'taxi'. "
        "Did you mean '20261101-120000-ab12'? `satisfice runs` lists them."
    )
    for stranger in ("x", ""):
        with pytest.raises(MetadataError, match=r"pipeline 'taxi'\. `satisfice runs`"):
            ledger.lineage().run(stranger)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (Execution.COMPLETE, "ran"),
        (Execution.CACHED, "cached"),
        (Execution.FAILED, "failed"),
        (Execution.CANCELED, "canceled"),
        (Execution.RUNNING, "running"),
        (Execution.NEW, "running"),
    ],
)
def test_the_state_of_a_node(ledger: Ledger, state: int, word: str) -> None:
    """In one word, with its times; a node without outputs is told of as well."""
    execution = ledger.execution(RUN, "Trainer", state)
    (stored,) = ledger.store.get_executions_by_id([execution])
    node = ledger.lineage().node(RUN, "Trainer")
    assert node is not None
    assert (node.node, node.state, node.reason, node.outputs) == ("Trainer", word, "", ())
    assert (node.started_ms, node.ended_ms) == (
        stored.create_time_since_epoch,
        stored.last_update_time_since_epoch,
    )
    assert node.seconds == (node.ended_ms - node.started_ms) / 1000


def test_nodes_in_the_order_in_which_they_began(ledger: Ledger) -> None:
    """Those that were skipped come last with their reasons, and none comes twice; other runs do not count."""
    run = begin(ledger, RUN, 1_000)
    for node in ("Transform", "ExampleGen"):
        ledger.execution(RUN, node)
    ledger.execution(RUN, "Trainer", Execution.FAILED)
    ledger.execution("another run", "Evaluator")
    ledger.execution(RUN, None)
    nodes = [
        {"node": "Trainer", "state": "skipped", "reason": "not so: the store knows better"},
        {"node": "Gate", "state": "skipped", "reason": "needs Trainer, which failed"},
        {"node": "Transform", "state": "ran", "reason": "", "progress": {"unit": "rows", "per_second": 3.5}},
    ]
    writer.close_run(ledger.store, run, "failed", 1, nodes)
    lineage = ledger.lineage()
    counted = {node.node: node.progress for node in lineage.nodes(lineage.run(RUN)) if node.progress}
    assert counted == {"Transform": {"unit": "rows", "per_second": 3.5}}
    told = [(node.node, node.state, node.reason) for node in lineage.nodes(lineage.run(RUN))]
    assert told == [
        ("Transform", "ran", ""),
        ("ExampleGen", "ran", ""),
        ("Trainer", "failed", ""),
        ("Gate", "skipped", "needs Trainer, which failed"),
    ]


def test_the_last_attempt_of_a_node_counts(ledger: Ledger) -> None:
    """A run that is resumed executes a failed node anew."""
    ledger.execution(RUN, "Trainer", Execution.FAILED)
    second = ledger.execution(RUN, "Trainer")
    lineage = ledger.lineage()
    assert lineage.executions(RUN)["Trainer"].id == second
    node = lineage.node(RUN, "Trainer")
    assert node is not None
    assert node.state == "ran"


def test_the_outputs_of_a_node(ledger: Ledger) -> None:
    """Outputs and what a resolver found, with plain properties; no inputs, no record, nothing internal to TFX."""
    execution = ledger.execution(RUN, "Champion")
    ledger.artifact(execution, "examples", "Examples", event=Event.INPUT)
    ledger.artifact(execution, "_condition", "Model", event=Event.INTERNAL_OUTPUT)
    structure = struct_pb2.Struct()
    structure.update({"eval": 2})
    proto = any_pb2.Any()
    proto.Pack(structure)
    given = {
        "pushed": 1,
        "share": 0.5,
        "name": "taxi",
        RECORD_PROPERTY: "{}",
        "yes": pb.Value(bool_value=True),
        "splits": pb.Value(struct_value=structure),
        "proto": pb.Value(proto_value=proto),
    }
    first = ledger.artifact(execution, "served", "PushedModel", given, event=Event.INTERNAL_OUTPUT)
    second = ledger.artifact(execution, "champion", "Model")
    node = ledger.lineage().node(RUN, "Champion")
    assert node is not None
    told = {output.key: (output.type, output.id, output.uri) for output in node.outputs}
    assert told == {
        "served": ("PushedModel", first, "/somewhere/PushedModel"),
        "champion": ("Model", second, "/somewhere/Model"),
    }
    assert next(output for output in node.outputs if output.key == "served").properties == {
        "pushed": 1,
        "share": 0.5,
        "name": "taxi",
        "yes": True,
        "splits": {"eval": 2.0},
    }


def test_records_are_read_back_whole(ledger: Ledger) -> None:
    """Each from the artifact of its type; what the Champion node resolved is no push of this run."""
    lineage = ledger.lineage()
    ledger.execution(RUN, "Trainer")
    assert (lineage.decision(RUN), lineage.data_decision(RUN), lineage.push_result(RUN)) == (None, None, None)

    data = DataDecision(outcome="block", rows={"train": 7}, reasons=("n (train): gone [X]",))
    decision = Decision(outcome="push", digest="d", gates=(), reasons=("all gates admit it",))
    push = PushResult(pushed=True, outcome="pushed", digest="d", version=2, reason="Published as version 2.")
    older = push.model_copy(update={"version": 1})
    ledger.artifact(
        ledger.execution(RUN, "DataGate"), "decision", "DataDecision", {RECORD_PROPERTY: data.model_dump_json()}
    )
    champion = ledger.execution(RUN, "Champion")
    ledger.artifact(
        champion, "served", "PushedModel", {RECORD_PROPERTY: older.model_dump_json()}, Event.INTERNAL_OUTPUT
    )
    assert lineage.push_result(RUN) is None
    gate = ledger.execution(RUN, "Gate")
    ledger.artifact(gate, "blessing", "ModelBlessing")
    ledger.artifact(gate, "decision", "Decision", {RECORD_PROPERTY: decision.model_dump_json()})
    pusher = ledger.execution(RUN, "Pusher")
    ledger.artifact(pusher, "pushed_model", "PushedModel", {RECORD_PROPERTY: push.model_dump_json()})
    assert (lineage.decision(RUN), lineage.data_decision(RUN), lineage.push_result(RUN)) == (decision, data, push)


def test_an_artifact_without_its_record_gives_none(ledger: Ledger) -> None:
    """A node that failed half-way has registered its output and written nothing into it."""
    ledger.artifact(ledger.execution(RUN, "Gate", Execution.FAILED), "decision", "Decision")
    assert ledger.lineage().decision(RUN) is None


def test_no_store_is_said_and_none_is_made(tmp_path: Path) -> None:
    """A command that only reads leaves the disk as it was, and tells how there comes to be a store."""
    with pytest.raises(MetadataError) as caught:
        Lineage(sqlite(tmp_path / "metadata.db"), "taxi")
    assert str(caught.value) == (
        f"{tmp_path}/metadata.db: there is no metadata store yet. Run the pipeline once: satisfice run satisfice.yaml"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"# Notes\n\nnot a database\n" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """Whatever it is, it is not overwritten."""
    file = tmp_path / "metadata.db"
    file.write_bytes(content)
    with pytest.raises(MetadataError, match=r"cannot be opened as a metadata store.*expected a SQLite file") as caught:
        Lineage(sqlite(file), "taxi")
    assert "metadata.sqlite.path" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_reading_changes_nothing(ledger: Ledger) -> None:
    """Not a byte of the store."""
    ledger.artifact(ledger.execution(RUN, "Trainer"), "model", "Model")
    writer.close_run(ledger.store, begin(ledger, RUN, 1_000), "pushed", 0, [])
    before = ledger.path.read_bytes()
    lineage = ledger.lineage()
    lineage.nodes(lineage.run("latest"))
    assert ledger.path.read_bytes() == before
    assert sorted(file.name for file in ledger.path.parent.iterdir()) == ["metadata.db"]


def test_imports_ml_metadata_and_nothing_heavier() -> None:
    """A command that only reads answers at once."""
    heavy = ("tensorflow", "tfx", "apache_beam", "pandas", "pyarrow")
    code = f"import sys, components.lineage.reader, components.lineage.writer; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_small_pipeline_as_its_first_run_left_it(taxi: Bench) -> None:
    """What TFX's launcher wrote is read as well as what is written by hand above."""
    lineage = Lineage(sqlite(taxi.folder / "metadata.db"), "taxi")
    first = lineage.runs()[-1]
    assert (first.outcome, first.exit_code, first.runner, first.skipped) == ("pushed", 0, "local", {})
    nodes = {node.node: node for node in lineage.nodes(first)}
    assert list(nodes)[-2:] == ["Gate", "Pusher"]
    assert {node.state for node in nodes.values()} == {"ran"}
    outputs = {node: {output.key for output in record.outputs} for node, record in nodes.items()}
    assert outputs["Trainer"] == {"model", "model_run"}
    assert outputs["Champion"] == {"candidate"}
    decision, push = lineage.decision(first.run_id), lineage.push_result(first.run_id)
    data = lineage.data_decision(first.run_id)
    assert decision is not None
    assert push is not None
    assert data is not None
    assert (decision.outcome, push.version, push.digest) == ("push", 1, decision.digest)
    assert data.outcome == "proceed"
    assert sum(data.rows.values()) == 2000
