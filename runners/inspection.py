"""What `satisfice inspect` shows of a payload, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from serving.inspect import Inspection
from serving.saved_model_file import MetaGraph, SavedModelFile, Spec
from serving.tflite_file import Graph, Tensor, TFLiteFile

__all__ = ["lines"]

_SHOWN = 40
_INITIALIZER = "__saved_model_init_op"
"""Stands among the signatures, and is none that anyone calls."""


def lines(found: Inspection, *, tensors: bool = False) -> Iterator[str]:
    """The text, line by line.

    Args:
        found: what is shown.
        tensors: every tensor or variable, and not the first forty only.
    """
    limit = None if tensors else _SHOWN
    yield f"{found.path}: {'SavedModel' if found.kind == 'saved_model' else '.tflite file'}"
    yield f"  digest       {found.digest}"
    packed = f", {_size(found.compressed_bytes)} packed" if found.compressed_bytes is not None else ""
    yield f"  size         {_size(found.size_bytes)}{packed}"
    content = found.content
    yield from _tflite(content, limit) if isinstance(content, TFLiteFile) else _saved_model(content, limit)


def _tflite(file: TFLiteFile, limit: int | None) -> Iterator[str]:
    yield f"  format       version {file.schema_version}; {file.description}"
    kernels = "needs TensorFlow's own kernels (Flex)" if file.needs_flex else "built-in kernels alone"
    yield f"  operators    {_counted(file.operators)}; {kernels}"
    if file.custom:
        yield f"  custom       {', '.join(file.custom)}"
    if file.fused:
        yield f"  fused        {_counted(file.fused)}"
    if file.variables:
        yield f"  variables    {', '.join(file.variables)}: its weights may not be in the file"
    for signature in file.signatures:
        own = file.graphs[signature.graph].tensors
        yield f"signature {signature.name!r}"
        yield from (f"  in   {name}: {_tensor(own[index])}" for name, index in signature.inputs.items())
        yield from (f"  out  {name}: {_tensor(own[index])}" for name, index in signature.outputs.items())
    for number, graph in enumerate(file.graphs):
        yield f"graph {number} {graph.name!r}: {len(graph.operators)} operators, {len(graph.tensors)} tensors"
        yield from _cut(_tensors(graph), limit, "tensors (--tensors shows all)")


def _tensors(graph: Graph) -> list[str]:
    return [f"  {index:4}  {tensor.name}: {_tensor(tensor)}" for index, tensor in enumerate(graph.tensors)]


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.dtype} {_shape(tensor.shape)}"
    if tensor.bytes:
        text += f", constant, {_size(tensor.bytes)}"
    if tensor.quantization:
        scales = tensor.quantization.scale
        if len(scales) == 1:
            text += f", real = {scales[0]:.6g} * (q - {tensor.quantization.zero_point[0]})"
        else:
            text += f", {len(scales)} scales along dimension {tensor.quantization.dimension}"
    return text


def _saved_model(model: SavedModelFile, limit: int | None) -> Iterator[str]:
    yield f"  graph file   {_size(model.graph_bytes)}; variables {_size(model.variables_bytes)}"
    yield from (f"  PROBLEM      {problem}" for problem in model.problems)
    for graph in model.meta_graphs:
        yield from _meta_graph(graph, limit)


def _meta_graph(graph: MetaGraph, limit: int | None) -> Iterator[str]:
    yield f"graph for {', '.join(graph.tags) or 'no tag'}, TensorFlow {graph.tensorflow}, {graph.functions} functions"
    yield f"  operators    {_counted(graph.operators)}"
    for signature in graph.signatures:
        if signature.name == _INITIALIZER:
            continue
        yield f"signature {signature.name!r}"
        yield from (f"  in   {name}: {_spec(spec)}" for name, spec in signature.inputs.items())
        yield from (f"  out  {name}: {_spec(spec)}" for name, spec in signature.outputs.items())
    total = sum(one.bytes or 0 for one in graph.variables)
    yield f"{len(graph.variables)} variables, {_size(total)}"
    shown = [f"  {one.name}: {one.dtype} {_shape(one.shape)}, {_size(one.bytes)}" for one in graph.variables]
    yield from _cut(shown, limit, "variables (--tensors shows all)")
    for asset in graph.assets:
        yield f"asset {asset.name}: {_size(asset.bytes)}"


def _spec(spec: Spec) -> str:
    return f"{spec.dtype} {_shape(spec.shape)}"


def _cut(shown: list[str], limit: int | None, what: str) -> Iterable[str]:
    if limit is None or len(shown) <= limit:
        return shown
    return [*shown[:limit], f"  … and {len(shown) - limit} more {what}"]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" if count > 1 else name for name, count in counts.items()) or "none"


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "[any rank]"
    return f"[{', '.join('?' if size < 0 else str(size) for size in shape)}]"


def _size(size: int | None) -> str:
    if size is None:
        return "unknown size"
    return f"{size:,} bytes"
