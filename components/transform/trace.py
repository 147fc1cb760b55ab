"""The user's `preprocessing_fn` traced once: its graph, its analyzers, and in which order they can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow_transform import (
    analyzer_nodes,
    annotators,
    graph_context,
    graph_tools,
    impl_helper,
    tf2_utils,
    tf_utils,
)

from components.transform import operations
from components.transform.operations import UnsupportedError
from schemas.errors import Fault, UserModuleError, shorten
from schemas.user_model import raised

__all__ = ["Phase", "Traced", "operations_of", "source_of", "trace", "trace_phase"]

Tensors = dict[str, Any]
PreprocessingFn = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Phase:
    """Analyzers that can run at the same time, over the same pass through the data.

    Attributes:
        sinks: tf.Transform's `TensorSink`s: a tensor of the graph, and the node whose value it is to have.
        accumulations: the nodes that are to be fed in this phase, each once.
        sources: the names of the tensors that feed them.
    """

    sinks: tuple[Any, ...]
    accumulations: tuple[Any, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Traced:
    """A preprocessing function as a graph.

    Attributes:
        function: the inputs to the sources of the first phase, by name.
        inputs: the graph's input tensors by feature.
        phases: in the order in which they can run; empty where there are no analyzers.
        fingerprint: of the analyzers, by which a later trace is compared with this one.
        assets: annotations of assets, by key.
        analyzed: the features that the first phase is made of.
        module: holds what the function owns (variables, tables); it lives as long as the function does.
    """

    function: Any
    inputs: Mapping[str, Any]
    phases: tuple[Phase, ...]
    fingerprint: Mapping[str, Any]
    assets: Mapping[str, str]
    analyzed: tuple[str, ...]
    module: tf.Module


def trace(preprocessing_fn: PreprocessingFn, specs: Mapping[str, tf.TypeSpec], folder: str) -> Traced:
    """Traces a preprocessing function and plans its analyzers.

    Args:
        preprocessing_fn: the user's.
        specs: of its inputs.
        folder: for files that stand in for vocabularies until they are known.

    Raises:
        UserModuleError: the function fails, or returns something else than tensors by name.
        UnsupportedError: an analyzer is not one that this package can run.
    """
    module = tf.Module()
    context = graph_context.TFGraphContext(module_to_export=module, temp_dir=folder, evaluated_replacements=None)
    phases: list[Phase] = []

    @tf.function(input_signature=[dict(specs)], autograph=False)
    def first_phase(inputs: Tensors) -> Tensors:
        graph = tf.compat.v1.get_default_graph()
        with context:
            _call(preprocessing_fn, tf_utils.copy_tensors(inputs))
        phases.extend(_plan(graph, inputs))
        return {name: graph.get_tensor_by_name(name) for name in phases[0].sources} if phases else {}

    with annotators.object_tracker_scope(annotators.ObjectTracker()):
        function = first_phase.get_concrete_function()
    graph = function.graph
    if graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES):
        raise _fault(preprocessing_fn, "made trainable variables", "none")
    inputs = tf2_utils.get_structured_inputs_from_func_graph(graph)
    assets = annotators.get_asset_annotations(graph)
    annotators.clear_asset_annotations(graph)
    sources = [graph.get_tensor_by_name(name) for name in phases[0].sources] if phases else []
    always = list(graph.control_outputs)  # what runs whatever is asked for, such as assertions
    return Traced(
        function=function,
        inputs=inputs,
        phases=tuple(phases),
        fingerprint=graph_tools.get_analyzers_fingerprint(graph, inputs),
        assets=assets,
        analyzed=tuple(graph_tools.get_dependent_inputs(graph, inputs, [*sources, *always])),
        module=module,
    )


def trace_phase(
    preprocessing_fn: PreprocessingFn,
    specs: Mapping[str, tf.TypeSpec],
    phase: Phase,
    known: Mapping[str, tf.Tensor],
    folder: str,
) -> tuple[Any, tf.Module]:
    """The function from the inputs to a later phase's sources, and the module that holds what it owns.

    Args:
        preprocessing_fn, specs, folder: as `trace` takes them.
        phase: whose sources are wanted.
        known: the values of the tensors that earlier phases have found, by name.
    """
    module = tf.Module()
    context = graph_context.TFGraphContext(module_to_export=module, temp_dir=folder, evaluated_replacements=dict(known))
    names = {name: name for name in phase.sources}
    function = impl_helper.get_traced_transform_fn(preprocessing_fn, dict(specs), context, names)
    return function.get_concrete_function(), module


def operations_of(value: Any) -> list[Any]:
    """The `OperationNode`s that a `ValueNode` is made by, each once, inputs first."""
    seen: dict[Any, None] = {}

    def visit(node: Any) -> None:
        if node not in seen:
            for one in node.inputs:
                visit(one.parent_operation)
            seen[node] = None

    visit(value.parent_operation)
    return list(seen)


def source_of(node: Any) -> Sequence[tf.Tensor]:
    """The tensors whose values an accumulation is fed with."""
    (source,) = node.inputs
    operation = source.parent_operation.operation_def
    if type(operation) is not analyzer_nodes.TensorSource:
        raise UnsupportedError(f"the analyzer {node.operation_def.label} is fed by a {type(operation).__name__}")
    tensors: Sequence[tf.Tensor] = operation.tensors
    return tensors


def _call(preprocessing_fn: PreprocessingFn, inputs: Tensors) -> None:
    """Makes sure of what the function returns; its analyzers stand in the graph."""
    outputs: Any
    try:
        outputs = preprocessing_fn(inputs)
    except Exception as error:
        raise _fault(preprocessing_fn, raised(preprocessing_fn, error)) from error
    if not isinstance(outputs, Mapping) or not outputs:
        got = "an empty dict" if isinstance(outputs, Mapping) else shorten(outputs)
        raise _fault(preprocessing_fn, "returned something else", "a dict of tensors by name", got)
    wrong = {name: what for name, value in outputs.items() if (what := _not_of_rows(value))}
    if wrong:
        raise _fault(preprocessing_fn, "returned values of no use", "a tensor [batch, ...] for each name", str(wrong))


def _not_of_rows(value: Any) -> str:
    """What a value is that has no rows; "" where it is as it should be."""
    if not isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor):
        return type(value).__name__
    return "a scalar" if value.shape.rank == 0 else ""


def _fault(function: PreprocessingFn, problem: str, expected: str = "", got: str = "") -> UserModuleError:
    where = f"{getattr(function, '__module__', '?')}.{getattr(function, '__name__', '?')}"
    return UserModuleError(where, [Fault("preprocessing_fn", problem, expected, got)])


def _plan(graph: Any, inputs: Tensors) -> list[Phase]:
    """Which analyzers can run when: first those that need no others' values. As `analysis_graph_builder.build`."""
    sinks = graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
    ready = {tf_utils.hashable_tensor_or_op(sink.tensor): False for sink in sinks}
    planned: set[Any] = set()
    phases = []
    while not all(ready.values()):
        analyzer = graph_tools.InitializableGraphAnalyzer(graph, inputs, list(ready.items()))
        waiting = [sink for sink in sinks if not ready[tf_utils.hashable_tensor_or_op(sink.tensor)]]
        now = [sink for sink in waiting if _can_run(sink.future, analyzer)]
        if not now:
            raise UnsupportedError("some analyzers wait for each other")
        ready |= {tf_utils.hashable_tensor_or_op(sink.tensor): True for sink in now}
        phases.append(_phase(now, planned))
    return phases


def _can_run(future: Any, analyzer: Any) -> bool:
    found = [node.operation_def for node in operations_of(future)]
    sources = [operation for operation in found if type(operation) is analyzer_nodes.TensorSource]
    return all(analyzer.ready_to_run(tensor) for source in sources for tensor in source.tensors)


def _phase(sinks: Sequence[Any], planned: set[Any]) -> Phase:
    accumulations, sources = [], dict[str, None]()
    for node in (node for sink in sinks for node in operations_of(sink.future)):
        operations.check(node.operation_def)
        if operations.is_accumulation(node.operation_def) and node not in planned:
            planned.add(node)
            accumulations.append(node)
            sources |= dict.fromkeys(tensor.name for tensor in source_of(node))
    return Phase(tuple(sinks), tuple(accumulations), tuple(sources))
