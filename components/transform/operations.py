"""What each analyzer node of tf.Transform does, on lists in the place of Beam's PCollections.

An analyzer begins with an accumulation, which is fed batch by batch (`accumulator_for`), and goes on with operations on
what was accumulated (`run`). They follow `tensorflow_transform.beam.analyzer_impls` and call tf.Transform's own combiners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, tf_utils
from tensorflow_transform.beam.analyzer_impls import _join_boundary_rows as join_boundary_rows

from components.transform import vocabulary

__all__ = [
    "Accumulator",
    "Elements",
    "Scope",
    "UnsupportedError",
    "accumulator_for",
    "check",
    "is_accumulation",
    "is_fed",
    "run",
]

Elements = list[Any]
"""The elements of what would be a PCollection."""


class UnsupportedError(Exception):
    """Something that stock TFX can do and this package cannot: the reason, in words."""


@dataclass(frozen=True)
class Scope:
    """What an operation needs beside its inputs.

    Attributes:
        folder: where vocabularies are written.
        graph: the traced graph of the preprocessing function.
    """

    folder: Path
    graph: Any


class Accumulator(Protocol):
    """Takes the values of an analyzer's input tensors batch by batch, and gives what they come to."""

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        """Takes one batch: one array per input tensor."""

    def elements(self) -> Elements:
        """What was accumulated, in the form in which tf.Transform merges and caches it."""


# --- accumulating -----------------------------------------------------------------------------------------------------


class _Combine:
    """One accumulator of a `Combiner`."""

    def __init__(self, combiner: Any) -> None:
        self._combiner = combiner
        self._accumulator = combiner.create_accumulator()

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        self._accumulator = self._combiner.add_input(self._accumulator, values)

    def elements(self) -> Elements:
        return [self._accumulator]


class _CombinePerKey:
    """An accumulator of a `Combiner` for each key; the first array holds the keys."""

    def __init__(self, combiner: Any) -> None:
        self._combiner = combiner
        self._accumulators: dict[Any, Any] = {}

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        keys, *arguments = values
        if keys.ndim != 1 or any(argument.ndim < 1 or len(argument) != len(keys) for argument in arguments):
            shapes = [value.shape for value in values]
            raise ValueError(f"an analyzer per key takes keys [n] and values [n, ...], got shapes {shapes}")
        for index, key in enumerate(keys):
            known = self._accumulators[key] if key in self._accumulators else self._combiner.create_accumulator()
            row = [argument[index] for argument in arguments]
            self._accumulators[key] = self._combiner.add_input(known, row)

    def elements(self) -> Elements:
        return list(self._accumulators.items())


_ACCUMULATIONS: Mapping[type, Callable[[Any], Accumulator]] = {
    analyzer_nodes.CacheableCombineAccumulate: lambda operation: _Combine(operation.combiner),
    analyzer_nodes.CacheableCombinePerKeyAccumulate: lambda operation: _CombinePerKey(operation.combiner),
    analyzer_nodes.VocabularyAccumulate: lambda operation: vocabulary.accumulator_for(operation.vocab_ordering_type),
}


def is_accumulation(operation: Any) -> bool:
    """Whether an operation takes the values of tensors, and not what other operations give."""
    return type(operation) in _ACCUMULATIONS


def is_fed(operation: Any) -> bool:
    """Whether an operation has its part while the data goes by: the source of an accumulation, or the accumulation."""
    return is_accumulation(operation) or type(operation) is analyzer_nodes.TensorSource


def accumulator_for(operation: Any) -> Accumulator:
    """A new accumulator for an accumulating operation."""
    return _ACCUMULATIONS[type(operation)](operation)


# --- merging and what follows -----------------------------------------------------------------------------------------


def _merge(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    (accumulators,) = inputs
    return ([_merged(operation.combiner, accumulators)],)


def _merge_per_key(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    (pairs,) = inputs
    by_key: dict[Any, Elements] = {}
    for key, accumulator in pairs:
        by_key.setdefault(key, []).append(accumulator)
    return ([(key, _merged(operation.combiner, accumulators)) for key, accumulators in by_key.items()],)


def _merged(combiner: Any, accumulators: Iterable[Any]) -> Any:
    """The output of a combiner. The first accumulator is a new one: merging may alter it."""
    result = combiner.create_accumulator()
    for accumulator in accumulators:
        both = [part for part in (result, accumulator) if part is not None]
        result = combiner.merge_accumulators(both)
    return combiner.extract_output(result)


def _outputs(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    ((outputs,),) = inputs
    _check_count(operation.num_outputs, outputs)
    return tuple([output] for output in outputs)


def _format_keys(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    """The keys in order, and for each output of the combiner the values in that order."""
    (pairs,) = inputs
    pairs = sorted(pairs, key=lambda pair: pair[0])
    types = [info.dtype for info in operation.combiner.output_tensor_infos()]
    for _key, outputs in pairs:
        _check_count(len(types), outputs)
    keys = np.array([key for key, _outputs in pairs], dtype=tf.string.as_numpy_dtype)
    columns = zip(*(outputs for _key, outputs in pairs), strict=True) if pairs else ([] for _ in types)
    values = [np.array(column, dtype.as_numpy_dtype) for column, dtype in zip(columns, types, strict=True)]
    return ([keys], *([value] for value in values))


def _format_large(_: Any, inputs: Sequence[Elements], _scope: Scope) -> tuple[Elements, ...]:
    (pairs,) = inputs
    text = tf.compat.as_str_any
    return ([(text(",".join(map(text, values))), key) for key, values in pairs],)


def _scale_buckets(_: Any, inputs: Sequence[Elements], _scope: Scope) -> tuple[Elements, ...]:
    ((boundaries,),) = inputs
    return tuple([output] for output in join_boundary_rows(boundaries))


def _flatten(_: Any, inputs: Sequence[Elements], _scope: Scope) -> tuple[Elements, ...]:
    (lists,) = inputs
    return ([element for elements in lists for element in elements],)


def _merge_vocabulary(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    (pairs,) = inputs
    merged = vocabulary.merge(
        pairs, operation.vocab_ordering_type, operation.use_adjusted_mutual_info, operation.min_diff_from_avg
    )
    return (merged,)


def _count_vocabulary(_: Any, inputs: Sequence[Elements], _scope: Scope) -> tuple[Elements, ...]:
    (words,) = inputs
    return ([np.int64(max(len(words), 1))],)  # an empty vocabulary is written with one word


def _prune_vocabulary(operation: Any, inputs: Sequence[Elements], _: Scope) -> tuple[Elements, ...]:
    (words,) = inputs
    return (vocabulary.prune(words, operation),)


def _write_vocabulary(operation: Any, inputs: Sequence[Elements], scope: Scope) -> tuple[Elements, ...]:
    words, *reserved = inputs
    lines = vocabulary.lines(words, operation, reserved[0][0] if reserved else None)
    file = vocabulary.write(lines, scope.folder / operation.vocab_filename, operation.file_format)
    return ([np.array(str(file))],)


def _reserved_tokens(operation: Any, _: Sequence[Elements], scope: Scope) -> tuple[Elements, ...]:
    return ([tf_utils.fetch_vocabulary_reserved_tokens(scope.graph, operation.name)],)


def _check_count(expected: int, outputs: Sequence[Any]) -> None:
    if len(outputs) != expected:
        raise ValueError(f"an analyzer has {expected} outputs, and its combiner gave {len(outputs)} values")


_OPERATIONS: Mapping[type, Callable[[Any, Sequence[Elements], Scope], tuple[Elements, ...]]] = {
    analyzer_nodes.CacheableCombineMerge: _merge,
    analyzer_nodes.CacheableCombinePerKeyMerge: _merge_per_key,
    analyzer_nodes.CacheableCombinePerKeyFormatKeys: _format_keys,
    analyzer_nodes.CacheableCombinePerKeyFormatLarge: _format_large,
    analyzer_nodes.ExtractCombineMergeOutputs: _outputs,
    analyzer_nodes.ExtractVocabularyReservedTokens: _reserved_tokens,
    analyzer_nodes.FlattenLists: _flatten,
    analyzer_nodes.ScaleAndFlattenPerKeyBucketBouandaries: _scale_buckets,
    analyzer_nodes.VocabularyCount: _count_vocabulary,
    analyzer_nodes.VocabularyMerge: _merge_vocabulary,
    analyzer_nodes.VocabularyOrderAndWrite: _write_vocabulary,
    analyzer_nodes.VocabularyPrune: _prune_vocabulary,
}


def run(operation: Any, inputs: Sequence[Elements], scope: Scope) -> tuple[Elements, ...]:
    """What an operation that is not fed gives: one list for each of its outputs."""
    return _OPERATIONS[type(operation)](operation, inputs, scope)


def check(operation: Any) -> None:
    """Makes sure that an operation is one of those above.

    Raises:
        UnsupportedError: it is none of them. The type itself counts, not what it derives from.
    """
    if not is_fed(operation) and type(operation) not in _OPERATIONS:
        raise UnsupportedError(f"the analyzer {operation.label} is made of a {type(operation).__name__}")
    ordering = getattr(operation, "vocab_ordering_type", None)
    if ordering is not None and ordering not in vocabulary.ORDERINGS:
        raise UnsupportedError(f"the vocabulary {operation.label} has the ordering {ordering}")
