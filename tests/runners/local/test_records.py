"""What the engine writes into ML Metadata is what TFX would have written: TFX itself finds it."""

from __future__ import annotations

import threading

import pytest
from tfx.orchestration import metadata
from tfx.orchestration.portable import inputs_utils

from components.lineage.reader import Lineage
from components.lineage.store import open_store
from runners.local.records import Records
from tests.runners.local.desk import Artifact, Desk, Execution


def resolved(desk: Desk, graph, name: str) -> list[dict[str, list[int]]]:
    """Ids of the artifacts that TFX's own launcher would give to a node; empty where it would skip it."""
    with metadata.Metadata(desk.connection) as handle:
        found = inputs_utils.resolve_input_artifacts(pipeline_node=graph.node(name).proto, metadata_handle=handle)
    return [{key: [one.id for one in artifacts] for key, artifacts in inputs.items()} for inputs in found]


def ids(artifacts) -> list[int]:
    return [one.id for one in artifacts]


def test_tfx_finds_what_was_begun_and_completed(desk) -> None:
    """As the input of the next node, and only in this run."""
    graph, other = desk.graph("run-1"), desk.graph("run-2")
    examples = desk.launch(graph, "Numbers")["examples"]
    assert resolved(desk, graph, "Judge") == [{"examples": ids(examples)}]
    with pytest.raises(Exception, match=r"(?i)error while resolving inputs"):
        resolved(desk, other, "Judge")


def test_tfx_finds_what_was_reused(desk) -> None:
    """A cached execution puts out the artifacts of the earlier one, under this run."""
    first, second = desk.graph("run-1"), desk.graph("run-2")
    outputs = desk.launch(first, "Numbers")
    execution = Records(desk.store).reuse(second.node("Numbers"), {}, outputs, {"start": 3})
    assert resolved(desk, second, "Judge") == [{"examples": ids(outputs["examples"])}]
    assert resolved(desk, first, "Judge") == [{"examples": ids(outputs["examples"])}]
    assert execution.last_known_state == Execution.CACHED
    assert len(desk.store.get_artifacts()) == 1


def test_tfx_reads_the_condition_from_what_was_reused(desk) -> None:
    """And skips where it is not met."""
    graph = desk.graph()
    inputs = desk.launch(graph, "Numbers")
    desk.launch(graph, "Judge", inputs)
    (found,) = resolved(desk, graph, "Fit")
    assert found["examples"] == ids(inputs["examples"])

    stopped = desk.graph("run-2")
    records = Records(desk.store)
    records.reuse(stopped.node("Numbers"), {}, inputs, {})
    decision = desk.artifact(stopped.node("Judge"), "decision", place="9", proceed=0)
    records.reuse(stopped.node("Judge"), inputs, {"decision": [decision]}, {})
    assert resolved(desk, stopped, "Fit") == []


def test_tfx_finds_what_a_resolver_chose(desk) -> None:
    """An internal output, and the same artifact."""
    graph = desk.graph()
    inputs = desk.launch(graph, "Numbers")
    desk.launch(graph, "Judge", inputs)
    model = desk.launch(graph, "Fit", inputs)["model"]
    Records(desk.store).resolve(graph.node("Champion"), {"candidate": model, "served": [], "champion": []})
    (found,) = resolved(desk, graph, "Compare")
    assert found["model"] == ids(model)


def test_what_was_put_out_is_read_back(desk) -> None:
    """By key, in order."""
    graph, records = desk.graph(), Records(desk.store)
    node = graph.node("Numbers")
    artifacts = [desk.artifact(node, "examples", place=str(place)) for place in range(3)]
    records.reuse(node, {}, {"examples": artifacts}, {})
    execution = records.execution_of(node)
    assert ids(records.outputs_of(execution)["examples"]) == ids(artifacts)
    assert records.execution_of(desk.graph("run-2").node("Numbers")) is None
    assert records.execution_of(graph.node("Judge")) is None


def test_contexts_are_made_once(desk) -> None:
    """However many nodes and writers; the run stands below the pipeline."""
    first = desk.graph()
    for _ in range(2):
        inputs = desk.launch(first, "Numbers")
    desk.launch(first, "Judge", inputs)
    desk.launch(desk.graph("run-2"), "Numbers")
    names = sorted((context.type, context.name) for context in desk.store.get_contexts())
    assert names == [
        ("node", "tiny.Judge"),
        ("node", "tiny.Numbers"),
        ("pipeline", "tiny"),
        ("pipeline_run", "run-1"),
        ("pipeline_run", "run-2"),
    ]
    run = desk.store.get_context_by_type_and_name("pipeline_run", "run-1")
    assert [parent.name for parent in desk.store.get_parent_contexts_by_context(run.id)] == ["tiny"]


def test_parameters_are_recorded_with_their_types(desk) -> None:
    """As the lineage's readers expect."""
    node, records = desk.graph().node("Numbers"), Records(desk.store)
    execution = records.begin(node, {}, {**node.parameters, "share": 0.5})
    properties = {**execution.properties, **execution.custom_properties}
    assert properties["start"].int_value == 3
    assert properties["word"].string_value == "number"
    assert properties["share"].double_value == 0.5


def test_a_node_has_one_execution_in_a_run(desk) -> None:
    """TFX refuses to run a node that has two: one that was cut off becomes the one that is reused, or resolved."""
    graph, records = desk.graph(), Records(desk.store)
    node = graph.node("Numbers")
    cut_off = records.begin(node, {}, node.parameters)
    assert records.unfinished(node).id == cut_off.id
    outputs = {"examples": [desk.artifact(node, "examples")]}
    assert records.reuse(node, {}, outputs, node.parameters).id == cut_off.id
    assert records.unfinished(node) is None

    judge = graph.node("Judge")
    failed = records.begin(judge, outputs, {})
    records.fail(failed)
    again = records.reuse(judge, outputs, desk.outputs(judge), {})
    assert again.id == failed.id
    assert len(desk.executions()) == 2
    assert [one.last_known_state for one in desk.executions()] == [Execution.CACHED] * 2
    events = desk.store.get_events_by_execution_ids([again.id])
    assert len(events) == 2


def test_what_failed_puts_out_nothing(desk) -> None:
    """TFX does not find it, and it counts as unfinished."""
    graph, records = desk.graph(), Records(desk.store)
    execution = records.begin(graph.node("Numbers"), {}, {})
    records.fail(execution)
    assert records.execution_of(graph.node("Numbers")).last_known_state == Execution.FAILED
    assert records.unfinished(graph.node("Numbers")).id == execution.id
    with pytest.raises(Exception, match="rror while resolving inputs"):
        resolved(desk, graph, "Judge")


def test_what_is_discarded_is_no_longer_live(desk) -> None:
    """TFX does not give it to a node any more, and no resolver of ours sees it."""
    graph, records = desk.graph(), Records(desk.store)
    examples = desk.launch(graph, "Numbers")["examples"]
    assert ids(records.artifacts_of_type(graph.node("Judge"), "Examples")) == ids(examples)
    records.discard(examples)
    assert [one.state for one in desk.store.get_artifacts()] == [Artifact.DELETED]
    assert records.artifacts_of_type(graph.node("Judge"), "Examples") == []
    with pytest.raises(Exception, match="rror while resolving inputs"):
        resolved(desk, graph, "Judge")


def test_artifacts_of_other_pipelines_are_not_seen(desk) -> None:
    """A pipeline that has not run has none."""
    node = desk.graph().node("Numbers")
    assert Records(desk.store).artifacts_of_type(node, "Examples") == []


def test_an_output_has_the_type_that_tfx_registers(desk) -> None:
    """Whoever puts it out first, so that a channel of that type finds it."""
    graph, records = desk.graph(), Records(desk.store)
    made = records.output(graph.node("Numbers"), "examples", "/somewhere")
    known = desk.launch(graph, "Numbers")["examples"][0]
    assert (made.type_id, made.type, made.uri) == (known.type_id, "Examples", "/somewhere")


def test_two_writers_at_once(desk) -> None:
    """Each in a connection of its own, as the coordinator and a worker are: nothing is lost, nothing is doubled."""
    graphs = [desk.graph(f"run-{number}") for number in range(4)]
    raised = []

    def write(graph) -> None:
        try:
            records = Records(open_store(desk.metadata))
            node = graph.node("Numbers")
            execution = records.begin(node, {}, node.parameters)
            records.complete(node, execution, {"examples": [desk.artifact(node, "examples", place=str(execution.id))]})
        except Exception as error:  # noqa: BLE001 - told in the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=write, args=(graph,)) for graph in graphs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    for graph in graphs:
        (found,) = resolved(desk, graph, "Judge")
        assert len(found["examples"]) == 1
    names = [(context.type, context.name) for context in desk.store.get_contexts()]
    assert len(names) == len(set(names)) == 2 + len(graphs)


def test_the_lineage_reads_it(desk) -> None:
    """What the commands show is the same for what was reused as for what ran."""
    graph, records = desk.graph(), Records(desk.store)
    outputs = desk.launch(graph, "Numbers")
    records.reuse(desk.graph("run-2").node("Numbers"), {}, outputs, {})
    lineage = Lineage(desk.metadata, "tiny", desk.store)
    ran, cached = lineage.node("run-1", "Numbers"), lineage.node("run-2", "Numbers")
    assert (ran.state, cached.state) == ("ran", "cached")
    assert ran.outputs == cached.outputs
