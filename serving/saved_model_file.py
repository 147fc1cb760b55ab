"""What stands in a SavedModel: signatures, variables, assets, operators. Nothing is executed, and TensorFlow not imported.

The graph's messages are read with the copies of TensorFlow's definitions that TensorBoard carries, which load in a tenth of
a second. Sizes of variables follow from their shapes; the checkpoint itself is not read.
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import NotAPayloadError, StoreError

__all__ = ["Asset", "MetaGraph", "SavedModelFile", "Spec", "Variable", "read"]

_BINARY, _TEXT = "saved_model.pb", "saved_model.pbtxt"
_INDEX = "variables/variables.index"
_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}
_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "qint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")


@dataclass(frozen=True)
class Spec:
    """A tensor of a signature.

    Attributes:
        shape: -1 where any size goes; None where any rank does.
        tensor: its name in the graph; "" for a sparse tensor.
    """

    dtype: str
    shape: tuple[int, ...] | None
    tensor: str


@dataclass(frozen=True)
class Signature:
    """A way of calling the model."""

    name: str
    method: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


@dataclass(frozen=True)
class Variable:
    """One variable.

    Attributes:
        bytes: of its content; None where its shape or type does not tell.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    trainable: bool
    bytes: int | None


@dataclass(frozen=True)
class Asset:
    """A file that the graph reads.

    Attributes:
        bytes: its size; None where it is not there.
    """

    name: str
    bytes: int | None


@dataclass(frozen=True)
class MetaGraph:
    """One graph, as it was saved for some use.

    Attributes:
        tags: that say for which.
        operators: how often each occurs, in the graph and in its functions.
    """

    tags: tuple[str, ...]
    tensorflow: str
    signatures: tuple[Signature, ...]
    variables: tuple[Variable, ...]
    assets: tuple[Asset, ...]
    operators: dict[str, int]
    functions: int


@dataclass(frozen=True)
class SavedModelFile:
    """All of it.

    Attributes:
        schema_version: of the format.
        graph_bytes: size of the file that holds the graphs.
        variables_bytes: size of the files that hold the variables.
        problems: what is missing, in words.
    """

    schema_version: int
    graph_bytes: int
    variables_bytes: int
    meta_graphs: tuple[MetaGraph, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read(path: str | os.PathLike[str]) -> SavedModelFile:
    """Reads the graphs of a SavedModel.

    Args:
        path: its directory.

    Raises:
        NotAPayloadError: there is no SavedModel, or its graphs are damaged.
        StoreError: a file cannot be read.
    """
    folder = Path(path)
    file = next((folder / name for name in (_BINARY, _TEXT) if (folder / name).is_file()), None)
    if file is None:
        raise NotAPayloadError(str(folder), "is no SavedModel", expected=f"{_BINARY} or {_TEXT} in it")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(str(file), f"cannot be read: {error.strerror or error}") from error
    message = _parsed(file, content)
    graphs = tuple(_meta_graph(graph, folder) for graph in message.meta_graphs)
    if not graphs:
        raise _damaged(file, "it holds no graph")
    held = sorted(folder.glob("variables/*"))
    return SavedModelFile(
        int(message.saved_model_schema_version),
        len(content),
        sum(one.stat().st_size for one in held if one.is_file()),
        graphs,
        tuple(_problems(folder, graphs)),
    )


def _parsed(file: Path, content: bytes) -> Any:
    from google.protobuf import message, text_format

    try:
        if file.name == _BINARY:
            return _message_class().FromString(content)
        return text_format.Parse(content.decode("utf-8"), _message_class()())
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise _damaged(file, " ".join(str(error).split()) or type(error).__name__) from error


def _damaged(file: Path, why: str) -> NotAPayloadError:
    return NotAPayloadError(
        str(file),
        f"is damaged: {why}",
        expected="the graphs of a SavedModel",
        remedy="It was probably cut off while it was copied: export or fetch it again.",
    )


@functools.cache
def _message_class() -> Any:
    """`tensorflow.SavedModel`, whose own module would import all of TensorFlow."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorboard.compat.proto import meta_graph_pb2

    inner = meta_graph_pb2.MetaGraphDef.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="satisfice/saved_model.proto", package="satisfice", syntax="proto3", dependency=[inner.file.name]
    )
    outer = file.message_type.add(name="SavedModel")
    field = descriptor_pb2.FieldDescriptorProto
    outer.field.add(name="saved_model_schema_version", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    outer.field.add(
        name="meta_graphs",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=f".{inner.full_name}",
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("satisfice.SavedModel"))


def _meta_graph(graph: Any, folder: Path) -> MetaGraph:
    nodes = [*graph.graph_def.node, *(node for one in graph.graph_def.library.function for node in one.node_def)]
    return MetaGraph(
        tuple(graph.meta_info_def.tags),
        graph.meta_info_def.tensorflow_version,
        tuple(_signature(name, graph.signature_def[name]) for name in sorted(graph.signature_def)),
        tuple(sorted(_variables(graph), key=lambda one: one.name)),
        tuple(_asset(folder, name) for name in sorted({asset.filename for asset in graph.asset_file_def})),
        dict(sorted(Counter(node.op for node in nodes).items())),
        len(graph.graph_def.library.function),
    )


def _signature(name: str, signature: Any) -> Signature:
    return Signature(name, signature.method_name, _specs(signature.inputs), _specs(signature.outputs))


def _specs(tensors: Any) -> dict[str, Spec]:
    return {
        name: Spec(_dtype(tensors[name].dtype), _shape(tensors[name].tensor_shape), tensors[name].name)
        for name in sorted(tensors)
    }


def _variables(graph: Any) -> Iterator[Variable]:
    """Of the objects that were saved; of the graph's nodes where a model of TensorFlow 1 has no objects."""
    objects = [node.variable for node in graph.object_graph_def.nodes if node.WhichOneof("kind") == "variable"]
    if objects:
        for one in objects:
            yield _variable(one.name, one.dtype, one.shape, bool(one.trainable))
        return
    for node in _variable_nodes(graph.graph_def.node):
        yield _variable(node.name, node.attr["dtype"].type, node.attr["shape"].shape, True)


def _variable_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    return (node for node in nodes if node.op in _VARIABLE_OPS)


def _variable(name: str, dtype: int, shape: Any, trainable: bool) -> Variable:
    kind, sizes = _dtype(dtype), _shape(shape)
    known = sizes is not None and kind in _BYTES and all(size >= 0 for size in sizes)
    return Variable(name, kind, sizes, trainable, math.prod(sizes or ()) * _BYTES[kind] if known else None)


def _asset(folder: Path, name: str) -> Asset:
    file = folder / "assets" / name
    return Asset(name, file.stat().st_size if file.is_file() else None)


def _problems(folder: Path, graphs: Iterable[MetaGraph]) -> Iterator[str]:
    if any(graph.variables for graph in graphs) and not (folder / _INDEX).is_file():
        yield f"{_INDEX} is not there: the model has variables and no values for them"
    for name in sorted({asset.name for graph in graphs for asset in graph.assets if asset.bytes is None}):
        yield f"assets/{name} is not there"


def _dtype(number: int) -> str:
    from tensorboard.compat.proto import types_pb2

    values = types_pb2.DataType.DESCRIPTOR.values_by_number
    name = values[number].name.removeprefix("DT_").lower() if number in values else f"type {number}"
    return _DTYPES.get(name, name)


def _shape(shape: Any) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(int(dim.size) for dim in shape.dim)
