"""Makes `.tflite` files of a SavedModel. What goes wrong with a variant is told in its record; it raises nothing.

A conversion that succeeds may still have lost its weights: the converter leaves them out of what it makes of a Keras 3
model that was saved as a `tf.Module`, and the file answers NaN. So the signature is loaded and its weights are made
constants first, which works for both kinds of Keras and takes a third of the time for five variants; and every file is
searched for operators that read variables, that TensorFlow itself would have to run, or that no runtime knows.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from components.trainer.export import TRANSFORMED_SIGNATURE
from schemas.errors import NotAPayloadError, SatisficeError, shorten
from schemas.tflite import EXPORT_FILE, Export, Takes, TensorRecord, Variant, VariantRecord
from serving import payload, tflite_file

__all__ = ["SIGNATURES", "Source", "convert", "export", "file_of", "layers_with", "opened"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Features = Mapping[str, Array]

SIGNATURES: dict[Takes, str] = {"transformed": TRANSFORMED_SIGNATURE, "raw": "serving_default"}
"""Signature of the SavedModel that a file is made of, by what a device hands in."""

_KEY = "serving_default"
_CALIBRATED: frozenset[Variant] = frozenset({"int8", "int16x8"})
_FOLDED = ("FusedBatchNormV3", "FusedBatchNormV2", "FusedBatchNorm")
_OPS = re.compile(r"(?:TF Select ops|Custom ops|ops not supported)\s*:\s*([^\n]+)")
_DETAIL = re.compile(r"\btf\.(\w+)\(")
_NOT_OURS = re.compile(r"^(StatefulPartitionedCall|PartitionedCall|model(_\d+)?|functional(_\d+)?|sequential(_\d+)?)$")


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        digest: of the SavedModel.
        function: its signature, loaded.
        model: holds the weights; must live as long as the function.
        takes: which features a device hands in.
        arguments: name to `tf.TensorSpec`.
        frozen: folder of a SavedModel that holds the signature alone, its weights as constants; None where it does not
            freeze.
    """

    digest: str
    function: Any
    model: Any
    takes: Takes
    arguments: dict[str, Any]
    frozen: Path | None = None

    @property
    def trained_for_int8(self) -> bool:
        """Whether the model holds the ranges of a quantization-aware training."""
        return any(kind.startswith("FakeQuant") for kind, _ in _nodes(self.function.graph))

    @property
    def texts(self) -> list[str]:
        """Arguments that are texts."""
        return sorted(name for name, spec in self.arguments.items() if spec.dtype == tf.string)

    @property
    def floats(self) -> list[str]:
        """Arguments that a quantized variant takes as integers."""
        return sorted(name for name, spec in self.arguments.items() if spec.dtype.is_floating)


@contextlib.contextmanager
def opened(saved_model: str | Path, takes: Takes = "transformed") -> Iterator[Source]:
    """Loads the signature to convert, for as long as the context lasts.

    Raises:
        SatisficeError: the SavedModel has no such signature.
        NotAPayloadError, StoreError: it is none.
    """
    digest, signature = payload.digest(saved_model), SIGNATURES[takes]
    model = tf.saved_model.load(str(saved_model))
    if signature not in model.signatures:
        raise SatisficeError(
            str(saved_model),
            f"has no signature {signature!r}",
            expected="a SavedModel that the Trainer wrote",
            got=", ".join(sorted(model.signatures)) or "none",
            remedy="Train it anew.",
        )
    function = model.signatures[signature]
    with tempfile.TemporaryDirectory(prefix="satisfice-tflite-") as folder:
        arguments = dict(function.structured_input_signature[1])
        yield Source(digest, function, model, takes, arguments, _frozen(function, arguments, Path(folder)))


def _frozen(function: Any, arguments: Mapping[str, Any], folder: Path) -> Path | None:
    """Writes the signature with its weights as constants; None where it holds what is no weight, such as a table."""
    names = sorted(function.structured_outputs)

    try:
        constant = convert_to_constants.convert_variables_to_constants_v2(function)
        order = [tensor.name.partition(":")[0] for tensor in constant.inputs]

        @tf.function(input_signature=[dict(arguments)])
        def call(given: Mapping[str, Any]) -> dict[str, Any]:
            return dict(zip(names, tf.nest.flatten(constant(*(given[name] for name in order))), strict=True))

        module = tf.Module()
        tf.saved_model.save(module, str(folder), signatures={_KEY: call})
    except (AssertionError, KeyError, ValueError, tf.errors.OpError) as reason:
        _log.warning("The signature is converted as it is: it does not freeze (%s)", _first_line(reason))
        return None
    return folder


def export(
    source: Source,
    variants: Sequence[Variant],
    representative: Features,
    folder: Path,
    before_calling: Sequence[str] = (),
) -> Export:
    """Makes all variants and their record.

    Args:
        source: from `opened`.
        variants: which.
        representative: rows of the train split, by the names of the arguments, `[rows, …]`.
        folder: gets one folder for each variant that could be made, and the record.
        before_calling: for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = tuple(convert(source, variant, representative, folder) for variant in variants)
    rows = len(next(iter(representative.values()), ()))
    record = Export(
        saved_model=source.digest,
        takes=source.takes,
        before_calling=tuple(before_calling),
        representative_rows=rows,
        variants=made,
    )
    (folder / EXPORT_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def file_of(folder: str | Path, variant: str) -> Path:
    """Where a variant's file stands in the folder of an export."""
    return Path(folder) / variant / payload.TFLITE_NAME


def convert(source: Source, variant: Variant, representative: Features, folder: Path) -> VariantRecord:
    """Makes one variant, and says what is wrong with it.

    Args:
        source: from `opened`.
        variant: which.
        representative: as for `export`; `int8` and `int16x8` need it.
        folder: gets `VARIANT/model.tflite`.
    """
    started = time.monotonic()
    path = file_of(folder, variant)
    path.unlink(missing_ok=True)
    problems = _unfit(source, variant, representative)
    if problems:
        return VariantRecord(variant=variant, problems=tuple(problems))
    content, notes, problem = _converted(source, variant, representative)
    seconds = round(time.monotonic() - started, 3)
    if content is None:
        return VariantRecord(variant=variant, problems=(problem,), notes=notes, seconds=seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if source.trained_for_int8 and variant in ("float16", "dynamic_int8"):
        notes = (*notes, "holds weights of 8 bits, as the quantization-aware training left them")
    return _described(source, variant, path, notes, seconds)


def _unfit(source: Source, variant: Variant, representative: Features) -> list[str]:
    """Why the variant cannot be made, before the converter is asked."""
    remedy = "Let preprocessing_fn turn it into a number (tft.compute_and_apply_vocabulary)."
    if source.takes == "raw":
        remedy = "Set export.tflite.takes to transformed: the device then does what preprocessing_fn does with it."
    problems = [f"takes text ({name}), which no device kernel quantizes or embeds. {remedy}" for name in source.texts]
    if variant == "int16x8" and source.trained_for_int8:
        problems.append(
            "was trained for activations of 8 bits (export.tflite.quantization_aware), which cannot become 16. "
            "Take int8, or leave quantization_aware out."
        )
    if variant in _CALIBRATED and not problems:
        problems += _unrepresentative(source, representative)
    return problems


def _unrepresentative(source: Source, representative: Features) -> Iterator[str]:
    """What is wrong with the rows by which activations' ranges are found."""
    remedy = "Ranges of activations cannot be found by it; check the train split, or take dynamic_int8."
    missing = sorted(source.arguments.keys() - representative.keys())
    if missing:
        yield f"the representative set lacks {', '.join(missing)}. {remedy}"
        return
    if not all(len(representative[name]) for name in source.arguments):
        yield f"the representative set is empty. {remedy}"
        return
    for name in source.floats:
        values = np.asarray(representative[name], np.float64)
        if not np.isfinite(values).all():
            yield f"the representative set holds values of {name} that are not finite. {remedy}"
        elif values.min() == values.max():
            yield f"the representative set is constant: {name} is {values.min():.6g} in all {len(values):,} rows. {remedy}"


def _converted(source: Source, variant: Variant, representative: Features) -> tuple[bytes | None, tuple[str, ...], str]:
    """The file's content, notes, and what went wrong."""
    try:
        return _run_converter(source, variant, representative, whole_numbers=True), (), ""
    except Exception as error:  # noqa: BLE001  # TensorFlow's converter raises whatever its passes raise
        first = error
    if variant not in _CALIBRATED:
        return None, (), _told(source, first)
    try:
        content = _run_converter(source, variant, representative, whole_numbers=False)
    except Exception as error:  # noqa: BLE001  # as above
        return None, (), _told(source, error)
    return content, (f"takes and gives float32: with integers it does not convert ({_first_line(first)})",), ""


def _run_converter(source: Source, variant: Variant, representative: Features, *, whole_numbers: bool) -> bytes:
    if source.frozen:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source.frozen), signature_keys=[_KEY])
    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([source.function], source.model)
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant in _CALIBRATED:
        sets, kind = _INTEGER_OPS[variant]
        converter.target_spec.supported_ops = sets
        converter.representative_dataset = lambda: _rows(source, representative)
        if whole_numbers:
            converter.inference_input_type = kind
            converter.inference_output_type = kind
    with warnings.catch_warnings():  # the calibrator makes an interpreter of TensorFlow's own, which warns about itself
        warnings.filterwarnings(
            "ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated", category=UserWarning
        )
        content: bytes = converter.convert()
    return content


_INTEGER_OPS: dict[Variant, tuple[list[Any], Any]] = {
    "int8": ([tf.lite.OpsSet.TFLITE_BUILTINS_INT8], tf.int8),
    "int16x8": ([tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8], tf.int16),
}


def _rows(source: Source, representative: Features) -> Iterator[dict[str, Array]]:
    """One row after the other, as the converter's calibration takes them."""
    count = len(next(iter(representative.values())))
    for row in range(count):
        yield {
            name: np.asarray(representative[name][row : row + 1], spec.dtype.as_numpy_dtype)
            for name, spec in source.arguments.items()
        }


# --- what came of it --------------------------------------------------------------------------------------------------


def _described(source: Source, variant: Variant, path: Path, notes: tuple[str, ...], seconds: float) -> VariantRecord:
    try:
        file = tflite_file.read(path)
    except NotAPayloadError as error:
        return VariantRecord(variant=variant, problems=(str(error),), notes=notes, seconds=seconds)
    return VariantRecord(
        variant=variant,
        problems=tuple(_flaws(source, file)),
        notes=notes,
        digest=payload.digest(path),
        size_bytes=file.size_bytes,
        compressed_bytes=tflite_file.compressed_bytes(path),
        operators=file.operators,
        custom=tuple(file.custom),
        needs_flex=file.needs_flex,
        fused=file.fused,
        folded=tuple(sorted({name for name, _ in _nodes(source.function.graph) if name in _FOLDED})),
        inputs={name: _tensor(tensor) for name, tensor in file.arguments().items()},
        outputs={name: _tensor(tensor) for name, tensor in file.results().items()},
        seconds=seconds,
    )


def _flaws(source: Source, file: tflite_file.TFLiteFile) -> Iterator[str]:
    if file.variables:
        yield (
            f"lost its weights: {' and '.join(file.variables)} look for variables that are not in the file, and it would "
            "answer NaN. Convert from the SavedModel's signature, as the exporter does."
        )
    for name in file.custom:
        operator = name.removeprefix("Flex")
        yield _without_kernel(source, operator)


def _tensor(tensor: tflite_file.Tensor) -> TensorRecord:
    quantization = tensor.quantization
    one = quantization is not None and len(quantization.scale) == 1
    return TensorRecord(
        dtype=tensor.dtype,
        shape=tensor.shape,
        scale=quantization.scale[0] if quantization and one else None,
        zero_point=quantization.zero_point[0] if quantization and one else None,
    )


def _told(source: Source, error: Exception) -> str:
    """What the converter said, as a problem: the operators with the layers that they came from, where it named some."""
    text = str(error)
    named = {name.strip().removeprefix("Flex") for found in _OPS.findall(text) for name in found.split(",")}
    operators = sorted({name for name in named | set(_DETAIL.findall(text)) if name.isidentifier()})
    if operators:
        return " ".join(_without_kernel(source, name) for name in operators)
    return f"does not convert: {_first_line(error).rstrip('.')}. Take another variant, or change the model."


def _without_kernel(source: Source, operator: str) -> str:
    layers = layers_with(source.function.graph, operator)
    where = f" (layer {', '.join(layers)})" if layers else ""
    elsewhere = "move it into preprocessing_fn"
    if source.takes == "raw":
        elsewhere = "set export.tflite.takes to transformed where it is preprocessing_fn's"
    return (
        f"{operator}{where} has no TFLite kernel. Replace it by what has one, or {elsewhere}; "
        "runtimes with TensorFlow's own kernels (Flex) are not shipped to."
    )


def layers_with(graph: Any, operator: str) -> list[str]:
    """Names of the Keras layers in whose scope an operator stands, in a signature's graph and what it calls."""
    found = Counter(_layer(name) for kind, name in _nodes(graph) if kind == operator)
    return sorted(layer for layer in found if layer)


def _nodes(graph: Any) -> Iterator[tuple[str, str]]:
    """Operator and name of each node of a graph and of the functions that it calls."""
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        yield from ((node.op, node.name) for node in nodes)


def _layer(node: str) -> str:
    """`model/dense_1/Erf` -> `dense_1`: the innermost scope but the operation itself, without the model's own."""
    scopes: Iterable[str] = [part for part in node.split("/")[:-1] if not _NOT_OURS.match(part)]
    return next(iter(scopes), "")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
