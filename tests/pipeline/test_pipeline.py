"""The graph of a configuration, as it is compiled for every runner."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from pipeline.pipeline import create_pipeline
from pipeline.user_module import load_user_module
from runners.run import _compile
from schemas.load import load_config
from tests.workbench import REPOSITORY, Bench

BEAM_ARGS = ["--runner=FnApiRunner"]

GOLDEN = REPOSITORY / "tests" / "golden" / "taxi_graph.json"
FILES = {"TFLiteExporter", "Devices", "TFLiteEvaluator"}
BEHIND_THE_DATA_GATE = {"Transform", "Trainer", "Champion", "Evaluator", "Profiler", *FILES, "Gate", "Pusher"}

MODULE = """
WIDTH = 4

def preprocessing_fn(inputs):
    return {"x": inputs["x"]}

def build_model(keras, features, hyperparameters):
    return WIDTH
"""

Nodes = dict[str, Any]


def compiled(bench: Bench, *overrides: str, root: str = "/somewhere") -> Nodes:
    """Node id to its IR."""
    loaded = load_config(bench.config, overrides)
    module = load_user_module(loaded.config.model.module, loaded.folder)
    connection = sqlite_metadata_connection_config("/somewhere/metadata.db")
    ir = _compile(create_pipeline(loaded.config, module, root, connection, BEAM_ARGS), "run-1")
    return {entry.pipeline_node.node_info.id: entry.pipeline_node for entry in ir.nodes}


def parameters(nodes: Nodes) -> dict[str, dict[str, Any]]:
    """What the cache key of each node sees of the configuration and the code."""
    found: dict[str, dict[str, Any]] = {}
    for name, node in nodes.items():
        values = {key: value.field_value for key, value in node.parameters.parameters.items()}
        found[name] = {key: value.string_value or value.int_value for key, value in values.items()}
    return found


def differing(one: Nodes, other: Nodes) -> set[str]:
    """The nodes whose parameters differ, and which therefore would run again."""
    before, after = parameters(one), parameters(other)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def as_text(nodes: Nodes) -> str:
    """The shape of the graph, without what changes with the code or the machine."""
    shape = {
        name: {
            "type": node.node_info.type.name,
            "needs": list(node.upstream_nodes),
            "conditions": len(node.inputs.conditionals),
            "inputs": sorted(key for key in node.inputs.inputs if not key.startswith("_")),
            "outputs": {key: spec.artifact_spec.type.name for key, spec in sorted(node.outputs.outputs.items())},
            "parameters": sorted(node.parameters.parameters),
        }
        for name, node in nodes.items()
    }
    return json.dumps(shape, indent=2) + "\n"


@pytest.fixture
def rewritten(fresh_taxi: Bench) -> Iterator[Callable[[str], Nodes]]:
    """Compiles the pipeline with another text of a module beside the configuration, as a new process would."""
    file = fresh_taxi.folder / "rewritten_model.py"

    def compile_with(text: str) -> Nodes:
        file.write_text(text)
        sys.modules.pop("rewritten_model", None)
        importlib.invalidate_caches()
        return compiled(fresh_taxi, "model.module=rewritten_model")

    yield compile_with
    sys.modules.pop("rewritten_model", None)
    sys.path.remove(str(fresh_taxi.folder))


@pytest.fixture
def profiled_taxi(fresh_taxi: Bench) -> Bench:
    """With the gates that are shipped, some of them on figures that are profiled, and the files for devices."""
    shipped = yaml.safe_load((REPOSITORY / "satisfice.yaml").read_text())
    fresh_taxi.edit(lambda raw: raw.update({key: shipped[key] for key in ("gates", "export", "push")}))
    return fresh_taxi


def test_the_graph_is_the_golden_one(profiled_taxi: Bench, renew: bool) -> None:
    """Nodes, their types, inputs, outputs and parameters; `pytest --renew` writes them anew."""
    text = as_text(compiled(profiled_taxi))
    if renew:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


def test_what_must_not_run_on_bad_data_stands_behind_the_data_gate(profiled_taxi: Bench) -> None:
    """In one and the same condition, on the gate's `proceed`; what comes before it stands in none."""
    nodes = compiled(profiled_taxi)
    conditions = {name: list(node.inputs.conditionals.items()) for name, node in nodes.items()}
    assert {name for name, found in conditions.items() if found} == BEHIND_THE_DATA_GATE
    for name in BEHIND_THE_DATA_GATE:
        ((key, condition),) = conditions[name]
        assert key == conditions["Pusher"][0][0]
        compare = condition.placeholder_expression.operator.compare_op
        left = compare.lhs.operator.artifact_property_op
        assert left.key == "proceed"
        assert left.expression.operator.index_op.expression.placeholder.key == "_DataGate.decision"
        assert compare.rhs.value.int_value == 1
        assert "DataGate" in nodes[name].upstream_nodes


def test_the_profiler_runs_alone_and_only_where_a_gate_needs_it(fresh_taxi: Bench) -> None:
    """Behind the Evaluator, before the Gate, which reads what it measured."""
    without = compiled(fresh_taxi)
    assert "Profiler" not in without
    assert not without["Gate"].inputs.inputs["profile"].channels
    fresh_taxi.edit(lambda raw: raw["gates"]["satisfy"].append({"metric": "latency_p50_ms", "batch_size": 8, "max": 9}))
    nodes = compiled(fresh_taxi)
    assert "Evaluator" in nodes["Profiler"].upstream_nodes
    assert set(nodes["Profiler"].downstream_nodes) == {"Gate"}
    (channel,) = nodes["Gate"].inputs.inputs["profile"].channels
    assert (channel.producer_node_query.id, channel.output_key) == ("Profiler", "profile")
    for key, producer in (("model", "Trainer"), ("champion", "Champion"), ("examples", "ExampleGen")):
        (channel,) = nodes["Profiler"].inputs.inputs[key].channels
        assert channel.producer_node_query.id == producer


def test_a_limit_does_not_measure_again(profiled_taxi: Bench) -> None:
    """What is measured follows from batch sizes and slices; the limits are the Gate's."""
    first = compiled(profiled_taxi)
    index = next(
        index
        for index, gate in enumerate(yaml.safe_load(profiled_taxi.config.read_text())["gates"]["satisfy"])
        if gate["metric"] == "latency_p50_ms"
    )
    assert differing(first, compiled(profiled_taxi, f"gates.satisfy.{index}.max=3")) == {"Gate"}
    assert differing(first, compiled(profiled_taxi, f"gates.satisfy.{index}.batch_size=3")) == {"Profiler", "Gate"}


def test_the_evaluator_measures_and_does_not_judge(fresh_taxi: Bench) -> None:
    """Its configuration carries no threshold, and it reads the eval split alone."""
    found = parameters(compiled(fresh_taxi))["Evaluator"]
    assert "threshold" not in found["eval_config"].lower()
    assert '"is_baseline": true' in found["eval_config"]
    assert json.loads(found["example_splits"]) == ["eval"]


def test_the_trainer_does_not_see_the_eval_split(fresh_taxi: Bench) -> None:
    """It trains on one split and watches another."""
    found = parameters(compiled(fresh_taxi))["Trainer"]
    assert json.loads(found["train_args"])["splits"] == ["train"]
    assert json.loads(found["eval_args"])["splits"] == ["validate"]
    assert "eval" not in found["custom_config"].replace("validate", "")


def test_the_trained_model_is_what_is_evaluated_judged_and_pushed(fresh_taxi: Bench) -> None:
    """One and the same artifact."""
    nodes = compiled(fresh_taxi)
    for name in ("Evaluator", "Gate", "Pusher"):
        (channel,) = nodes[name].inputs.inputs["model"].channels
        assert (channel.producer_node_query.id, channel.output_key) == ("Trainer", "model")
    (baseline,) = nodes["Evaluator"].inputs.inputs["baseline_model"].channels
    assert (baseline.producer_node_query.id, baseline.output_key) == ("Champion", "champion")


def test_build_model_reaches_the_trainer_alone(rewritten: Callable[[str], Nodes]) -> None:
    """A change of it, or of what it uses, trains again and transforms nothing again."""
    first = rewritten(MODULE)
    assert differing(first, rewritten(MODULE.replace("return WIDTH", "return WIDTH + 1"))) == {"Trainer"}
    assert differing(first, rewritten(MODULE.replace("WIDTH = 4", "WIDTH = 5"))) == {"Trainer"}


def test_preprocessing_reaches_transform(rewritten: Callable[[str], Nodes]) -> None:
    """The Trainer sees its change through the examples."""
    changed = MODULE.replace('{"x": inputs["x"]}', '{"x": inputs["y"]}')
    assert differing(rewritten(MODULE), rewritten(changed)) == {"Transform"}


def test_a_comment_reaches_nothing(rewritten: Callable[[str], Nodes]) -> None:
    """Nor do blank lines and docstrings."""
    assert differing(rewritten(MODULE), rewritten("# said\n\n" + MODULE.replace(":\n", ":\n    'Says.'\n\n"))) == set()


@pytest.mark.parametrize(
    ("override", "nodes"),
    [
        ("training.epochs=7", {"Trainer"}),
        ("model.hyperparameters.dropout=0.25", {"Trainer"}),
        ("gates.satisfy.0.min=0.61", set()),
        ("gates.satisfy.0.metric=binary_crossentropy", {"Evaluator"}),
        ("gates.satisfy.1.slice_by=[company]", {"Evaluator"}),
        ("data.splits={train: 8, validate: 1, eval: 1}", {"ExampleGen"}),
        ("data.validate.anomalies=warn", {"DataGate"}),
        ("push.serving.base_path=elsewhere", {"Pusher"}),
    ],
)
def test_a_change_of_the_configuration_reaches_what_it_concerns(
    fresh_taxi: Bench, override: str, nodes: set[str]
) -> None:
    """And no others; the Gate sees all of it, for its decision names the configuration's digest."""
    assert differing(compiled(fresh_taxi), compiled(fresh_taxi, override)) == nodes | {"Gate"}


def test_a_domain_in_the_schema_does_not_read_the_data_again(fresh_taxi: Bench) -> None:
    """The schema's own node sees the change, by its text; a type that changes is read again."""
    first = compiled(fresh_taxi)
    file = fresh_taxi.folder / "schema.pbtxt"
    text = file.read_text()
    file.write_text(text.replace("min: 1 max: 12", "min: 1 max: 11"))
    assert differing(first, compiled(fresh_taxi)) == {"CuratedSchema"}
    file.write_text(text.replace('name: "trip_start_month"\n  type: INT', 'name: "trip_start_month"\n  type: FLOAT'))
    assert differing(first, compiled(fresh_taxi)) == {"CuratedSchema", "ExampleGen"}


def test_the_root_is_no_parameter(fresh_taxi: Bench) -> None:
    """The same pipeline with another root is the same to the cache."""
    assert differing(compiled(fresh_taxi), compiled(fresh_taxi, root="/elsewhere")) == set()


def test_the_data_are_named_by_their_content(fresh_taxi: Bench, tmp_path: Path) -> None:
    """The path is a parameter of ExampleGen; what the rows are, its driver adds when it runs."""
    found = parameters(compiled(fresh_taxi))["ExampleGen"]
    assert json.loads(found["source"])["path"] == str(fresh_taxi.data)
    assert "input_fingerprint" not in found


def test_nothing_is_downloaded_for_beam(fresh_taxi: Bench) -> None:
    """The in-process engine is asked for by its own name."""
    loaded = load_config(fresh_taxi.config)
    module = load_user_module(loaded.config.model.module, loaded.folder)
    connection = sqlite_metadata_connection_config("/somewhere/metadata.db")
    made = create_pipeline(loaded.config, module, "/somewhere", connection, BEAM_ARGS, ingest_on_beam=True)
    assert made.beam_pipeline_args == BEAM_ARGS
    assert [node.exec_properties["on_beam"] for node in made.components if node.id == "ExampleGen"] == [1]
    assert made.enable_cache
