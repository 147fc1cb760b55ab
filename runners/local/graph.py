"""The nodes of a compiled pipeline, as much of them as it takes to decide what has to run. Imports protos alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2, placeholder_pb2

__all__ = ["Channel", "Condition", "Graph", "Node", "read_graph"]

RESOLVER_TYPE = "tfx.dsl.components.common.resolver.Resolver"


@dataclass(frozen=True)
class Channel:
    """Where an input comes from.

    Attributes:
        producer: id of the node; "" for every artifact of a type in the pipeline, whichever run made it.
        output_key: of the producer.
        artifact_type: name of the type.
    """

    producer: str
    output_key: str
    artifact_type: str


@dataclass(frozen=True)
class Condition:
    """A node runs only where a property of an input artifact has a value."""

    input_key: str
    property: str
    value: int | str


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        id: of the node.
        type: dotted class path, the execution type in ML Metadata.
        executor: dotted class path; "" for a resolver.
        parameters: static execution parameters.
        inputs: key to channels; inputs that only a condition reads have a key that begins with `_`.
        resolver_inputs: what a resolver chooses from; empty for other nodes.
        outputs: key to artifact type.
        conditions: all must hold.
        upstream: ids.
        proto: the node's IR.
    """

    id: str
    type: str
    executor: str
    parameters: dict[str, str | int | float]
    inputs: dict[str, tuple[Channel, ...]]
    resolver_inputs: dict[str, tuple[Channel, ...]]
    outputs: dict[str, str]
    conditions: tuple[Condition, ...]
    upstream: tuple[str, ...]
    proto: Any = field(repr=False)

    @property
    def is_resolver(self) -> bool:
        """A resolver chooses artifacts and has no executor."""
        return self.type == RESOLVER_TYPE


@dataclass(frozen=True)
class Graph:
    """A compiled pipeline: nodes in topological order, and the IR."""

    nodes: tuple[Node, ...]
    ir: Any = field(repr=False)

    @property
    def root(self) -> str:
        """The pipeline root."""
        return str(self.ir.runtime_spec.pipeline_root.field_value.string_value)

    @property
    def run_id(self) -> str:
        """Of the run."""
        return str(self.ir.runtime_spec.pipeline_run_id.field_value.string_value)

    def node(self, name: str) -> Node:
        """The node of an id; KeyError where there is none."""
        for node in self.nodes:
            if node.id == name:
                return node
        raise KeyError(name)

    def downstream(self, name: str) -> set[str]:
        """Ids of all nodes that need a node, directly or through others, and its own."""
        found = {name}
        for node in self.nodes:
            if found.intersection(node.upstream):
                found.add(node.id)
        return found


def read_graph(serialized: bytes, run_id: str) -> Graph:
    """The graph of a serialized pipeline IR, with the run id and the pipeline root filled in.

    Args:
        serialized: a `tfx.orchestration.Pipeline` proto, whose run id and root are still runtime parameters.
        run_id: of this run.

    Raises:
        ValueError: the pipeline has no absolute root.
    """
    ir = pipeline_pb2.Pipeline.FromString(serialized)
    root = ir.runtime_spec.pipeline_root.runtime_parameter.default_value.string_value
    if not os.path.isabs(root):  # TFX would write artifacts below wherever the process stands
        raise ValueError(f"the pipeline root is not an absolute path: {root!r}")
    for value, text in ((ir.runtime_spec.pipeline_run_id, run_id), (ir.runtime_spec.pipeline_root, root)):
        value.Clear()
        value.field_value.string_value = text
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    ir.deployment_config.Unpack(deployment)
    nodes = []
    for entry in ir.nodes:
        proto = entry.pipeline_node
        _fill_in_run_id(proto, run_id)
        nodes.append(_node(proto, _executor(deployment, proto.node_info.id)))
    return Graph(tuple(nodes), ir)


def _fill_in_run_id(node: Any, run_id: str) -> None:
    specs = [*node.contexts.contexts]
    for spec in node.inputs.inputs.values():
        for channel in spec.channels:
            specs += channel.context_queries
    for spec in specs:
        if spec.type.name == "pipeline_run":
            spec.name.Clear()
            spec.name.field_value.string_value = run_id


def _executor(deployment: Any, node: str) -> str:
    packed = deployment.executor_specs.get(node)
    if packed is None:
        return ""
    python = executable_spec_pb2.PythonClassExecutableSpec()
    if packed.Unpack(python):
        return str(python.class_path)
    beam = executable_spec_pb2.BeamExecutableSpec()
    return str(beam.python_executor_spec.class_path) if packed.Unpack(beam) else ""


def _node(proto: Any, executor: str) -> Node:
    inputs = {key: _channels(spec) for key, spec in proto.inputs.inputs.items()}
    is_resolver = proto.node_info.type.name == RESOLVER_TYPE
    return Node(
        id=proto.node_info.id,
        type=proto.node_info.type.name,
        executor=executor,
        parameters=_parameters(proto.parameters.parameters),
        inputs={key: channels for key, channels in inputs.items() if channels and not is_resolver},
        resolver_inputs={key: channels for key, channels in inputs.items() if channels} if is_resolver else {},
        outputs={key: spec.artifact_spec.type.name for key, spec in proto.outputs.outputs.items()},
        conditions=tuple(_condition(spec) for spec in proto.inputs.conditionals.values()),
        upstream=tuple(proto.upstream_nodes),
        proto=proto,
    )


def _parameters(values: Mapping[str, Any]) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {}
    for key, value in values.items():
        kind = value.field_value.WhichOneof("value")
        if kind:
            found[key] = getattr(value.field_value, kind)
    return found


def _channels(spec: Any) -> tuple[Channel, ...]:
    return tuple(
        Channel(channel.producer_node_query.id, channel.output_key, channel.artifact_query.type.name)
        for channel in spec.channels
    )


def _condition(spec: Any) -> Condition:
    """Reads `input[0].property == value`, the only form of condition that the pipelines here use."""
    compare = spec.placeholder_expression.operator.compare_op
    read = compare.lhs.operator.artifact_property_op
    value = compare.rhs.value
    key = read.expression.operator.index_op.expression.placeholder.key
    equal = compare.op == placeholder_pb2.ComparisonOperator.EQUAL
    if not equal or not key or not read.key or not value.WhichOneof("value"):
        raise ValueError(f"a condition of another form than `input[0].property == value`: {spec}")
    return Condition(key, read.key, getattr(value, value.WhichOneof("value")))
