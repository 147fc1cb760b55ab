"""What stands in a `.tflite` file: signatures, tensors with their quantization, operators. Nothing is executed.

Reads the flatbuffer with LiteRT's own schema, which needs NumPy and no TensorFlow. A file that is cut off or damaged
raises, whatever its bytes say.
"""

from __future__ import annotations

import functools
import gzip
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import NotAPayloadError, StoreError

__all__ = [
    "IDENTIFIER",
    "Operator",
    "Quantization",
    "Signature",
    "TFLiteFile",
    "Tensor",
    "compressed_bytes",
    "parse",
    "read",
]

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every `.tflite` file."""

_HEADER_BYTES = 8
_CUSTOM = 32
_FLEX = "Flex"
_STATEFUL = frozenset({"VAR_HANDLE", "READ_VARIABLE"})
_DAMAGE = (struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Quantization:
    """How integers stand for real numbers: `real = scale * (integer - zero_point)`.

    Attributes:
        scale, zero_point: one entry for the whole tensor, or one for each index of `dimension`.
        dimension: along which scales differ.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dimension: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph.

    Attributes:
        dtype: `float32`, `int8`, …
        shape: -1 where the size is known when the model is called only.
        bytes: of its content, where it is a constant; else 0.
        quantization: None where it holds the values themselves.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    quantization: Quantization | None


@dataclass(frozen=True)
class Operator:
    """One step of a graph.

    Attributes:
        name: of a built-in operator, or the custom code of another.
        version: of the operator's definition.
        fused: the activation that runs inside it (`RELU`), or "".
        inputs, outputs: indices of tensors; -1 for an input that is left out.
    """

    name: str
    version: int
    custom: bool
    fused: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """A way of calling the model: name of an argument or a result to the index of its tensor in `graph`."""

    name: str
    graph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """A graph of operators on tensors; the first of a file is what a call runs."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TFLiteFile:
    """All of it.

    Attributes:
        size_bytes: of the file.
        schema_version: of the format.
        description: of what made it.
        metadata: names of what is attached to it.
    """

    size_bytes: int
    schema_version: int
    description: str
    signatures: tuple[Signature, ...]
    graphs: tuple[Graph, ...]
    metadata: tuple[str, ...]

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs, by name: what a build with selected operators must hold."""
        counts = Counter(operator.name for graph in self.graphs for operator in graph.operators)
        return dict(sorted(counts.items()))

    @property
    def versions(self) -> dict[str, int]:
        """The highest version of each operator."""
        found: dict[str, int] = {}
        for graph in self.graphs:
            for operator in graph.operators:
                found[operator.name] = max(found.get(operator.name, 1), operator.version)
        return dict(sorted(found.items()))

    @property
    def custom(self) -> list[str]:
        """Names of operators that the runtime has no kernel for by itself."""
        return sorted({op.name for graph in self.graphs for op in graph.operators if op.custom})

    @property
    def needs_flex(self) -> bool:
        """True where it runs only beside TensorFlow's own kernels."""
        return any(name.startswith(_FLEX) for name in self.custom)

    @property
    def fused(self) -> dict[str, int]:
        """How often an operator runs its activation inside itself (`FULLY_CONNECTED+RELU`)."""
        counts = Counter(f"{op.name}+{op.fused}" for graph in self.graphs for op in graph.operators if op.fused)
        return dict(sorted(counts.items()))

    @property
    def variables(self) -> list[str]:
        """Operators that read variables: a file whose weights are not inside it holds such."""
        return sorted(_STATEFUL & self.operators.keys())

    def arguments(self) -> dict[str, Tensor]:
        """What the first signature takes, by name; what the first graph takes where there is no signature."""
        return self._called(lambda signature: signature.inputs, lambda graph: graph.inputs)

    def results(self) -> dict[str, Tensor]:
        """What the first signature gives, by name."""
        return self._called(lambda signature: signature.outputs, lambda graph: graph.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "operators": self.operators,
            "versions": self.versions,
            "custom": self.custom,
            "needs_flex": self.needs_flex,
            "fused": self.fused,
        }

    def _called(
        self, of_signature: Callable[[Signature], Mapping[str, int]], of_graph: Callable[[Graph], tuple[int, ...]]
    ) -> dict[str, Tensor]:
        if self.signatures:
            signature = self.signatures[0]
            tensors = self.graphs[signature.graph].tensors
            return {name: tensors[index] for name, index in of_signature(signature).items()}
        graph = self.graphs[0]
        return {graph.tensors[index].name: graph.tensors[index] for index in of_graph(graph)}


def read(path: str | os.PathLike[str]) -> TFLiteFile:
    """Reads a file.

    Raises:
        NotAPayloadError: it is no `.tflite` file, or is damaged.
        StoreError: it cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {error.strerror or error}") from error
    return parse(content, str(path))


def parse(content: bytes, name: str = "model") -> TFLiteFile:
    """Reads the content of a file.

    Args:
        content: the bytes.
        name: what an error calls them.

    Raises:
        NotAPayloadError: they are no `.tflite` file, or are damaged.
    """
    if content[4:_HEADER_BYTES] != IDENTIFIER:
        raise NotAPayloadError(
            name,
            "is no .tflite file",
            expected=f"{IDENTIFIER.decode()} in bytes 4 to 8",
            got=repr(content[4:_HEADER_BYTES]),
        )
    try:
        return _Reader(content).file()
    except _DAMAGE as error:
        raise NotAPayloadError(
            name,
            f"is damaged: what it points to is not there ({type(error).__name__})",
            expected=f"a whole .tflite file; this one has {len(content):,} bytes",
            remedy="It was probably cut off while it was copied: make or fetch it again.",
        ) from error


def compressed_bytes(path: str | os.PathLike[str]) -> int:
    """Size of the file when packed with gzip, as it travels in an application's package."""
    return len(gzip.compress(Path(path).read_bytes(), 9, mtime=0))


class _Reader:
    """Walks the flatbuffer; whatever points out of it raises one of `_DAMAGE`."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated

        self._schema: Any = schema_py_generated
        self._size = len(content)
        self._model = self._schema.Model.GetRootAs(content, 0)

    def file(self) -> TFLiteFile:
        model = self._model
        graphs = tuple(map(self._graph, self._each(model.SubgraphsLength(), model.Subgraphs)))
        if not graphs:
            raise ValueError("no graph")
        signatures = tuple(map(self._signature, self._each(model.SignatureDefsLength(), model.SignatureDefs)))
        for signature in signatures:
            self._check(signature, graphs)
        return TFLiteFile(
            self._size,
            int(model.Version()),
            _text(model.Description()),
            signatures,
            graphs,
            tuple(_text(one.Name()) for one in self._each(model.MetadataLength(), model.Metadata)),
        )

    def _each(self, count: int, get: Callable[[int], Any]) -> Iterator[Any]:
        if count > self._size:
            raise ValueError(f"a list of {count}")
        return map(get, range(count))

    def _numbers(self, count: int, get: Callable[[int], Any]) -> tuple[int, ...]:
        return tuple(int(number) for number in self._each(count, get))

    @staticmethod
    def _check(signature: Signature, graphs: tuple[Graph, ...]) -> None:
        tensors = graphs[signature.graph].tensors
        for index in (*signature.inputs.values(), *signature.outputs.values()):
            tensors[index]

    def _signature(self, signature: Any) -> Signature:
        return Signature(
            _text(signature.SignatureKey()),
            int(signature.SubgraphIndex()),
            {
                _text(one.Name()): int(one.TensorIndex())
                for one in self._each(signature.InputsLength(), signature.Inputs)
            },
            {
                _text(one.Name()): int(one.TensorIndex())
                for one in self._each(signature.OutputsLength(), signature.Outputs)
            },
        )

    def _graph(self, graph: Any) -> Graph:
        tensors = tuple(map(self._tensor, self._each(graph.TensorsLength(), graph.Tensors)))
        inputs = self._numbers(graph.InputsLength(), graph.Inputs)
        outputs = self._numbers(graph.OutputsLength(), graph.Outputs)
        operators = tuple(map(self._operator, self._each(graph.OperatorsLength(), graph.Operators)))
        for index in (*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs))):
            if not -1 <= index < len(tensors):
                raise IndexError(index)
        return Graph(_text(graph.Name()), tensors, operators, inputs, outputs)

    def _tensor(self, tensor: Any) -> Tensor:
        if tensor.ShapeSignatureLength():
            shape = self._numbers(tensor.ShapeSignatureLength(), tensor.ShapeSignature)
        else:
            shape = self._numbers(tensor.ShapeLength(), tensor.Shape)
        return Tensor(
            _text(tensor.Name()),
            _names(self._schema.TensorType)[tensor.Type()].lower(),
            shape,
            self._content_bytes(tensor.Buffer()),
            self._quantization(tensor.Quantization()),
        )

    def _content_bytes(self, index: int) -> int:
        if index >= self._model.BuffersLength():
            raise IndexError(index)
        buffer = self._model.Buffers(index)
        size = int(buffer.Size()) if buffer.Offset() > 1 else int(buffer.DataLength())
        if size > self._size:
            raise ValueError(f"a buffer of {size} bytes")
        return size

    def _quantization(self, quantization: Any) -> Quantization | None:
        if quantization is None or not quantization.ScaleLength():
            return None
        return Quantization(
            tuple(float(scale) for scale in self._each(quantization.ScaleLength(), quantization.Scale)),
            self._numbers(quantization.ZeroPointLength(), quantization.ZeroPoint),
            int(quantization.QuantizedDimension()),
        )

    def _operator(self, operator: Any) -> Operator:
        index = operator.OpcodeIndex()
        if index >= self._model.OperatorCodesLength():
            raise IndexError(index)
        code = self._model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = number == _CUSTOM
        return Operator(
            _text(code.CustomCode()) if custom else _names(self._schema.BuiltinOperator)[number],
            int(code.Version()),
            custom,
            self._fused(operator),
            self._numbers(operator.InputsLength(), operator.Inputs),
            self._numbers(operator.OutputsLength(), operator.Outputs),
        )

    def _fused(self, operator: Any) -> str:
        kind = getattr(self._schema, _names(self._schema.BuiltinOptions)[operator.BuiltinOptionsType()], None)
        table = operator.BuiltinOptions()
        if kind is None or table is None or not hasattr(kind, "FusedActivationFunction"):
            return ""
        options = kind()
        options.Init(table.Bytes, table.Pos)
        name = _names(self._schema.ActivationFunctionType)[options.FusedActivationFunction()]
        return "" if name == "NONE" else name


@functools.cache
def _names(enumeration: Any) -> dict[int, str]:
    """Number to name of what the schema enumerates."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8")
