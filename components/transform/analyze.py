"""tf.Transform's analysis over files of examples, phase by phase, and the transform graph that comes of it.

A phase is one pass over the data in batches: memory does not grow with the number of rows, but for the distinct words of
a vocabulary.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper, tf2_utils
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from components.transform import operations
from components.transform.cache import AnalyzerCache, Entry
from components.transform.operations import Elements, Scope
from components.transform.records import Parser, batches, program
from components.transform.trace import Phase, Traced, operations_of, source_of, trace, trace_phase

__all__ = ["Analysis", "analyze", "publish"]

_SAVED_MODEL = "transform_fn"
_BATCH_ROWS = 1024
"""As stock TFX's batches: tf.Transform adds up each batch in single precision, which loses digits in larger ones."""

Values = dict[Any, Elements]


@dataclass(frozen=True)
class Analysis:
    """What the analysis found.

    Attributes:
        saved_model: of the preprocessing function with the values of its analyzers; its metadata is within.
        folder: temporary; holds all of it.
        assets: annotations of assets, by key.
        rows_read: in the first pass; those that were known from an earlier run do not count.
    """

    saved_model: Path
    folder: Path
    assets: Mapping[str, str]
    rows_read: int


def analyze(
    preprocessing_fn: Callable[[dict[str, Any]], dict[str, Any]],
    parser: Parser,
    files: Sequence[str],
    folder: Path,
    cache: AnalyzerCache | None = None,
) -> Analysis:
    """Finds the values of all the analyzers of a preprocessing function.

    Args:
        preprocessing_fn: the user's.
        parser: of the examples.
        files: of the examples to analyze.
        folder: for temporary files; it is made, and not removed.
        cache: of what earlier runs found in some of the files. It serves the first phase: what later ones find depends
            on all the files.

    Raises:
        UserModuleError: the function fails, or returns something else than tensors by name.
        UnsupportedError: an analyzer is not one that this package can run; nothing was read.
        DataError: a record is no example of the schema.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    traced = trace(preprocessing_fn, parser.specs, str(folder))
    scope = Scope(folder, traced.function.graph)
    values: Values = {}
    known: dict[str, tf.Tensor] = {}
    rows_read = 0
    for phase in traced.phases:
        if phase.accumulations and phase is traced.phases[0]:
            feed = _feed(traced.function, traced, parser, traced.analyzed)
            rows_read = _accumulate(phase, feed, files, values, cache)
        elif phase.accumulations:
            function, _module = trace_phase(preprocessing_fn, parser.specs, phase, known, str(folder))
            _accumulate(phase, _feed(function, traced, parser, tuple(parser.specs)), files, values)
        for sink in phase.sinks:
            (value,) = _evaluate(sink.future, values, scope)
            known[sink.tensor.name] = tf.constant(value, sink.tensor.dtype)
    saved_model = folder / _SAVED_MODEL
    impl_helper.trace_and_write_v2_saved_model(
        str(saved_model), preprocessing_fn, parser.specs, str(folder), traced.fingerprint, known, {}, None
    )
    return Analysis(saved_model, folder, traced.assets, rows_read)


def publish(analysis: Analysis, parser: Parser, graph: Path) -> None:
    """Puts the transform graph into its place, as `tft.TFTransformOutput` reads it, and removes the temporary folder.

    Args:
        analysis: what was found.
        parser: whose schema is the raw metadata.
        graph: folder of the artifact.
    """
    output = tft.TFTransformOutput
    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(parser.schema), str(graph / output.RAW_METADATA_DIR))
    transformed = graph / output.TRANSFORMED_METADATA_DIR
    _move(analysis.saved_model / impl_helper.METADATA_DIR_NAME, transformed)
    if analysis.assets:
        (transformed / output.ASSET_MAP).write_text(json.dumps(analysis.assets), encoding="utf-8")
    _move(analysis.saved_model, graph / output.TRANSFORM_FN_DIR)
    shutil.rmtree(analysis.folder)


def _feed(function: Any, traced: Traced, parser: Parser, columns: Sequence[str]) -> Any:
    """A program from serialized examples to what a traced function gives; features that it does not need are made up."""
    missing = [name for name in parser.specs if name not in columns]

    def feed(serialized: tf.Tensor) -> Any:
        inputs = parser.parse(serialized, columns)
        if missing:
            inputs |= tf2_utils.supply_missing_inputs(traced.inputs, tf.shape(serialized)[0], missing)
        return function(inputs)

    return program(feed)


def _accumulate(
    phase: Phase, feed: Any, files: Sequence[str], values: Values, cache: AnalyzerCache | None = None
) -> int:
    """Feeds all the accumulations of a phase in one pass over the files; the number of rows that were read."""
    rows = 0
    outputs = [node.outputs[0] for node in phase.accumulations]
    values.update({output: [] for output in outputs})
    described = [_described(node) for node in phase.accumulations]
    for file in files:
        entry = cache.find(file, described) if cache else None
        if entry is None:
            entry = _accumulate_file(phase, feed, file)
            rows += entry.rows
            entry = cache.keep(file, described, entry) if cache else entry
        for output, found in zip(outputs, entry.elements, strict=True):
            values[output] += found
    return rows


def _described(node: Any) -> str:
    """What an accumulation does, and with which tensors."""
    operation = node.operation_def
    fields = {name: operation.get_field_str(name) for name in operation._fields}
    return f"{type(operation).__name__} {fields} {[tensor.name for tensor in source_of(node)]}"


def _accumulate_file(phase: Phase, feed: Any, file: str) -> Entry:
    """The number of rows of a file, and what each accumulation comes to over it."""
    names = [[tensor.name for tensor in source_of(node)] for node in phase.accumulations]
    accumulators = [operations.accumulator_for(node.operation_def) for node in phase.accumulations]
    rows = 0
    for count, tensors in batches([file], feed, _BATCH_ROWS):
        arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
        for accumulator, sources in zip(accumulators, names, strict=True):
            accumulator.add(tuple(arrays[name] for name in sources))
        rows += count
    return Entry(rows, [accumulator.elements() for accumulator in accumulators])


def _evaluate(value: Any, values: Values, scope: Scope) -> Elements:
    """The elements of a `ValueNode`; `values` holds those that are known, and takes those that are found."""
    for node in operations_of(value):
        if operations.is_fed(node.operation_def) or all(output in values for output in node.outputs):
            continue
        outputs = operations.run(node.operation_def, [values[one] for one in node.inputs], scope)
        values.update(zip(node.outputs, outputs, strict=True))
    return values[value]


def _move(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(source, target)
