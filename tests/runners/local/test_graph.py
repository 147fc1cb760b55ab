"""The graph that the engine reads from a compiled pipeline."""

from __future__ import annotations

import pytest
from tfx.proto.orchestration import pipeline_pb2, placeholder_pb2

from runners.local.graph import Channel, Condition, read_graph
from tests.runners.local.tiny import ORDER, compiled


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return read_graph(compiled(tmp_path_factory.mktemp("graph")), "run-7")


def test_nodes_stand_in_an_order_in_which_they_can_run(graph) -> None:
    """Each after all that it needs."""
    assert {node.id for node in graph.nodes} == set(ORDER)
    seen: set[str] = set()
    for node in graph.nodes:
        assert set(node.upstream) <= seen
        seen.add(node.id)


def test_channels_name_producer_and_key(graph) -> None:
    """Inputs as the component declares them."""
    assert graph.node("Fit").inputs["examples"] == (Channel("Numbers", "examples", "Examples"),)
    assert graph.node("Compare").inputs["model"] == (Channel("Champion", "candidate", "Model"),)
    assert graph.node("Fit").outputs == {"model": "Model"}


def test_parameters_keep_their_types(graph) -> None:
    """An integer stays one."""
    assert graph.node("Numbers").parameters == {"start": 3, "word": "number"}
    assert graph.node("Judge").parameters == {}


def test_conditions_are_read(graph) -> None:
    """What the node's condition compares, and the input through which it is read."""
    (condition,) = graph.node("Fit").conditions
    assert condition == Condition("_Judge.decision", "proceed", 1)
    assert graph.node("Fit").inputs[condition.input_key] == (Channel("Judge", "decision", "DataDecision"),)
    assert graph.node("Numbers").conditions == graph.node("Report").conditions == ()


def test_a_resolver_has_no_executor_and_says_what_it_chooses_from(graph) -> None:
    """A channel without a producer stands for every artifact of its type in the pipeline."""
    champion = graph.node("Champion")
    assert champion.is_resolver
    assert (champion.executor, champion.inputs) == ("", {})
    found = {channel for channels in champion.resolver_inputs.values() for channel in channels}
    assert {Channel("Fit", "model", "Model"), Channel("", "", "Model"), Channel("", "", "PushedModel")} <= found
    assert graph.node("Fit").executor == "tests.runners.local.tiny.Fit_Executor"
    assert not graph.node("Fit").is_resolver


def test_everything_below_a_node_is_found(graph) -> None:
    """Through others too, the node itself among it."""
    assert graph.downstream("Judge") == {"Judge", "Fit", "Champion", "Compare"}
    assert graph.downstream("Report") == {"Report"}
    assert graph.downstream("Numbers") == set(ORDER)
    with pytest.raises(KeyError):
        graph.node("Nonesuch")


def test_nothing_is_left_to_fill_in(graph, tmp_path) -> None:
    """Run id and pipeline root, in every place: TFX would write below the working directory without the latter."""
    text = str(graph.ir)
    assert "runtime_parameter" not in text
    contexts = [
        spec.name.field_value.string_value
        for node in graph.nodes
        for spec in (
            *node.proto.contexts.contexts,
            *(q for i in node.proto.inputs.inputs.values() for c in i.channels for q in c.context_queries),
        )
        if spec.type.name == "pipeline_run"
    ]
    assert set(contexts) == {"run-7"}
    assert len(contexts) > len(ORDER)
    assert graph.ir.runtime_spec.pipeline_run_id.field_value.string_value == "run-7"
    assert graph.ir.runtime_spec.pipeline_root.field_value.string_value == graph.root
    assert graph.root.startswith("/")


def test_a_pipeline_without_an_absolute_root_is_refused(tmp_path) -> None:
    """Its artifacts would lie wherever the process stands."""
    ir = pipeline_pb2.Pipeline.FromString(compiled(tmp_path))
    ir.runtime_spec.pipeline_root.runtime_parameter.default_value.string_value = "pipelines/tiny"
    with pytest.raises(ValueError, match="not an absolute path: 'pipelines/tiny'"):
        read_graph(ir.SerializeToString(), "run-1")
    ir.runtime_spec.pipeline_root.Clear()
    with pytest.raises(ValueError, match="not an absolute path: ''"):
        read_graph(ir.SerializeToString(), "run-1")


@pytest.mark.parametrize("form", ["greater", "no value"])
def test_a_condition_of_another_form_is_refused(tmp_path, form) -> None:
    """Rather than taken for the one that is known."""
    ir = pipeline_pb2.Pipeline.FromString(compiled(tmp_path))
    fit = next(one.pipeline_node for one in ir.nodes if one.pipeline_node.node_info.id == "Fit")
    for condition in fit.inputs.conditionals.values():
        compare = condition.placeholder_expression.operator.compare_op
        if form == "greater":
            compare.op = placeholder_pb2.ComparisonOperator.GREATER_THAN
        else:
            compare.rhs.Clear()
    with pytest.raises(ValueError, match="a condition of another form"):
        read_graph(ir.SerializeToString(), "run-1")
