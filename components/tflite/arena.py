"""How much memory a file's intermediate tensors need at once, as TFLite's own planner would lay them out. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.tflite_file import Graph, TFLiteFile

__all__ = ["Span", "arena_bytes", "layout", "spans"]

_ALIGNMENT = 64
_BYTES: Mapping[str, float] = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "bool": 1, "complex64": 8, "complex128": 16,
    "int2": 0.25, "int4": 0.5, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint4": 0.5, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """A tensor that is held from one step of the graph to another, both included.

    Attributes:
        size: in bytes.
    """

    size: int
    first: int
    last: int

    def meets(self, other: Span) -> bool:
        """Whether both are held at once."""
        return self.first <= other.last and other.first <= self.last


def arena_bytes(file: TFLiteFile) -> int:
    """Bytes for all tensors of the first graph that are no constants, for a batch of one, without a delegate."""
    return layout(spans(file.graphs[0]))


def spans(graph: Graph) -> list[Span]:
    """What has to be held from when to when. Arguments and results are held throughout."""
    end = len(graph.operators)
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys((*graph.inputs, *graph.outputs), end)
    for step, operator in enumerate(graph.operators):
        for index in operator.outputs:
            first.setdefault(index, step)
            last.setdefault(index, step)
        for index in operator.inputs:
            if index in first:
                last[index] = max(last[index], step)
    sizes = {index: _size(graph, index) for index in first if index >= 0 and not graph.tensors[index].bytes}
    return [Span(size, first[index], last[index]) for index, size in sizes.items() if size]


def layout(held: Sequence[Span]) -> int:
    """Bytes of an arena in which no two tensors that are held at once overlap: the largest first, each as low as it fits.

    >>> layout([Span(64, 0, 1), Span(64, 1, 2), Span(64, 2, 3)])
    128
    """
    placed: list[tuple[int, Span]] = []
    for span in sorted(held, key=lambda span: (-span.size, span.first)):
        offset = 0
        for begin, other in sorted((place for place in placed if place[1].meets(span)), key=lambda place: place[0]):
            if offset + span.size <= begin:
                break
            offset = max(offset, _aligned(begin + other.size))
        placed.append((offset, span))
    return max((offset + span.size for offset, span in placed), default=0)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _size(graph: Graph, index: int) -> int:
    tensor = graph.tensors[index]
    return math.ceil(_BYTES.get(tensor.dtype, 0) * math.prod(max(size, 1) for size in tensor.shape))
