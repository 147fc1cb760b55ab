"""The JSON of the REST interface: requests to arrays and protos, answers to text, errors in TF Serving's words."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2

from serving.server.status import Refusal
from serving.server.tensors import Array, data_type, dtype_name, numpy_type

__all__ = [
    "Format",
    "PredictInput",
    "fill_examples",
    "read_predict",
    "results_of_classes",
    "results_of_regressions",
    "write_outputs",
]

Format = Literal["row", "column"]

_SHOWN = 256
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_RANGES = {
    types_pb2.DT_INT32: (-(1 << 31), 1 << 31),
    types_pb2.DT_INT16: (-(1 << 31), 1 << 31),
    types_pb2.DT_INT8: (-(1 << 31), 1 << 31),
    types_pb2.DT_UINT8: (-(1 << 31), 1 << 31),
    types_pb2.DT_INT64: (-(1 << 63), 1 << 63),
    types_pb2.DT_UINT32: (0, 1 << 32),
    types_pb2.DT_UINT64: (0, 1 << 64),
}
_KINDS: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
_SHAPE = tuple[int, ...]


# --- predict --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictInput:
    """What a request for predictions says.

    Attributes:
        signature: its name; "" for the default one.
        inputs: values by alias.
        form: `row` for `instances`, `column` for `inputs`: the answer takes the same form.
    """

    signature: str
    inputs: dict[str, Array]
    form: Format


def read_predict(body: bytes, inputs_of: Callable[[str], Mapping[str, Any]]) -> PredictInput:
    """Reads a request for predictions.

    Args:
        body: of the HTTP request.
        inputs_of: `TensorInfo` by alias for the name of a signature, "" for the default one.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    document = _parse(body)
    signature = _signature(document)
    infos = inputs_of(signature)
    if not infos:
        raise Refusal("INVALID_ARGUMENT", f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    has_rows, has_columns = "instances" in document, "inputs" in document
    if has_rows and has_columns:
        problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise _format_error(document, problem)
    if has_rows:
        return PredictInput(signature, _rows(_instances(document), infos), "row")
    if has_columns:
        return PredictInput(signature, _columns(document["inputs"], infos), "column")
    raise Refusal("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")


def _instances(document: Mapping[str, Any]) -> list[Any]:
    instances = document["instances"]
    if not isinstance(instances, list):
        raise _format_error(document, "Expecting 'instances' to be an list/array")
    if not instances:
        raise _format_error(document, "No values in 'instances' array")
    return instances


def _rows(instances: Sequence[Any], infos: Mapping[str, Any]) -> dict[str, Array]:
    if not _is_object(instances[0]) and len(infos) > 1:
        raise Refusal(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        )
    even = _even_rows(instances, infos)
    if even is not None:
        return even
    gathered = {alias: _Column(info.dtype) for alias, info in infos.items()}
    _gather(instances, gathered)
    return {alias: column.array(len(instances)) for alias, column in gathered.items()}


def _gather(instances: Sequence[Any], gathered: Mapping[str, _Column]) -> None:
    if _is_object(instances[0]):
        for number, instance in enumerate(instances):
            _add_object(number, instance, gathered)
        return
    (column,) = gathered.values()
    for number, instance in enumerate(instances):
        if _is_object(instance):
            raise Refusal("INVALID_ARGUMENT", f"Expecting value/list but got object at item {number} of input list")
        _add(number, None, instance, column)


def _even_rows(instances: Sequence[Any], infos: Mapping[str, Any]) -> dict[str, Array] | None:
    """The inputs of rows which all look the same, without a look at each value; None where that does not suffice."""
    if not isinstance(instances[0], dict):
        values = {alias: _even(instances, info.dtype) for alias, info in infos.items()}
    elif "b64" not in infos and all(isinstance(row, dict) and row.keys() == infos.keys() for row in instances):
        values = {alias: _even([row[alias] for row in instances], info.dtype) for alias, info in infos.items()}
    else:
        return None
    found = {alias: one for alias, one in values.items() if one is not None}
    return found if len(found) == len(values) else None


def _even(values: Sequence[Any], dtype: int) -> Array | None:
    """Scalars of one type, or lists of such of one length, as an array; None for all else."""
    shape: _SHAPE = (len(values),)
    if isinstance(values[0], list):
        if set(map(type, values)) != {list} or len(set(map(len, values))) != 1 or not values[0]:
            return None
        shape = (len(values), len(values[0]))
        values = list(chain.from_iterable(values))
    if dtype == types_pb2.DT_STRING and set(map(type, values)) == {str}:
        return _array([value.encode() for value in values], shape, dtype)
    return _array(list(values), shape, dtype) if _all_good(values, dtype) else None


def _add_object(number: int, instance: Any, gathered: Mapping[str, _Column]) -> None:
    if not _is_object(instance):
        raise Refusal("INVALID_ARGUMENT", f"Expecting object but got list at item {number} of input list")
    for alias, value in instance.items():
        if alias not in gathered:
            raise _element_error(number, alias, f"JSON object: does not have named input: {alias}")
        _add(number, alias, value, gathered[alias])
    if instance.keys() != gathered.keys():
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Failed to process element: {number} of 'instances' list. JSON object: {_shown(instance)} keys must be "
            f"equal to: {','.join(sorted(gathered))}",
        )


def _add(number: int, alias: str | None, value: Any, column: _Column) -> None:
    try:
        column.add(value)
    except Refusal as refusal:
        raise _element_error(number, alias, refusal.message) from refusal


def _element_error(number: int, alias: str | None, message: str) -> Refusal:
    key = "" if alias is None else f" key: {alias}"
    text = f"Failed to process element: {number}{key} of 'instances' list. Error: INVALID_ARGUMENT: {message}"
    return Refusal("INVALID_ARGUMENT", text)


def _columns(given: Any, infos: Mapping[str, Any]) -> dict[str, Array]:
    if _is_object(given):
        for alias in infos:
            if alias not in given:
                raise Refusal("INVALID_ARGUMENT", f"Missing named input: {alias} in 'inputs' object.")
        return {alias: _dense(given[alias], info.dtype) for alias, info in infos.items()}
    if len(infos) > 1:
        raise Refusal(
            "INVALID_ARGUMENT",
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        )
    ((alias, info),) = infos.items()
    return {alias: _dense(given, info.dtype)}


class _Column:
    """One input, gathered from rows."""

    def __init__(self, dtype: int) -> None:
        self.dtype = dtype
        self._shape: _SHAPE | None = None
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """One row's value, of the same shape as the others'."""
        shape = _shape_of(value)
        values: list[Any] = []
        _flatten(value, 0, shape, self.dtype, values)
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            expected, got = math.prod(self._shape), math.prod(shape)
            if expected != got:
                raise Refusal("INVALID_ARGUMENT", f"Expecting tensor size: {expected} but got: {got}")
            raise Refusal("INVALID_ARGUMENT", f"Expecting shape {_spelled(self._shape)} but got: {_spelled(shape)}")
        self._values += values

    def array(self, rows: int) -> Array:
        """All rows, the first dimension theirs."""
        return _array(self._values, (rows, *(self._shape or ())), self.dtype)


def _spelled(shape: _SHAPE) -> str:
    return f"[{','.join(str(size) for size in shape)}]"


def _dense(value: Any, dtype: int) -> Array:
    shape = _shape_of(value)
    values: list[Any] = []
    _flatten(value, 0, shape, dtype, values)
    return _array(values, shape, dtype)


def _shape_of(value: Any) -> _SHAPE:
    """The shape that the first elements tell."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, level: int, shape: _SHAPE, dtype: int, into: list[Any]) -> None:
    """Gathers the leaves of nested lists, all of which must be as the shape says, as values of the type."""
    if not isinstance(value, list):
        if level != len(shape):
            raise Refusal(
                "INVALID_ARGUMENT",
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}",
            )
        into.append(_value(value, dtype))
        return
    if level >= len(shape):
        raise Refusal("INVALID_ARGUMENT", f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}",
        )
    if level == len(shape) - 1 and _all_good(value, dtype):
        into += value
        return
    for element in value:
        _flatten(element, level + 1, shape, dtype, into)


def _all_good(values: Sequence[Any], dtype: int) -> bool:
    """Whether numbers need no further look, told by their types and the range of whole ones."""
    kinds = set(map(type, values))
    if dtype in _FLOATS:
        return kinds <= {float, int}
    low, high = _RANGES.get(dtype, (0, 0))
    return kinds == {int} and low <= min(values) and max(values) < high


def _value(value: Any, dtype: int) -> Any:
    """A leaf as a value of the type."""
    if dtype == types_pb2.DT_STRING and isinstance(value, dict):
        return _decoded(value)
    if dtype not in _FITS:
        raise Refusal("UNIMPLEMENTED", f"Conversion of JSON Value: {_shown(value)} to type: {dtype_name(dtype)}")
    if not _FITS[dtype](value):
        raise Refusal(
            "INVALID_ARGUMENT",
            f"JSON Value: {_shown(value)} Type: {_kind(value)} is not of expected type: {dtype_name(dtype)}",
        )
    return value.encode() if dtype == types_pb2.DT_STRING else value


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_whole(low: int, high: int, value: Any) -> bool:
    return type(value) is int and low <= value < high


_FITS: dict[int, Callable[[Any], bool]] = {
    types_pb2.DT_STRING: lambda value: isinstance(value, str),
    types_pb2.DT_BOOL: lambda value: isinstance(value, bool),
    **dict.fromkeys(_FLOATS, _is_number),
    **{dtype: partial(_is_whole, low, high) for dtype, (low, high) in _RANGES.items()},
}


def _array(values: list[Any], shape: _SHAPE, dtype: int) -> Array:
    kind = numpy_type(dtype)
    if dtype == types_pb2.DT_STRING:
        array = np.empty(len(values), object)
        array[:] = values
        return array.reshape(shape)
    wide = (
        np.int64 if dtype in (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8) else kind
    )
    with np.errstate(over="ignore"):
        try:
            return np.array(values, wide).astype(kind, copy=False).reshape(shape)
        except OverflowError as error:
            raise Refusal("INVALID_ARGUMENT", f"JSON number is out of range for type: {dtype_name(dtype)}") from error
        except ValueError as error:
            raise Refusal("INVALID_ARGUMENT", f"Encountered a list of {len(shape)} levels: {error}") from error


# --- classify and regress -------------------------------------------------------------------------------------------


def fill_examples(body: bytes, request: Any) -> None:
    """Fills a `ClassificationRequest` or a `RegressionRequest` from JSON.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    document = _parse(body)
    request.model_spec.signature_name = _signature(document)
    listed = request.input.example_list
    if "context" in document:
        listed = request.input.example_list_with_context
        listed.context.CopyFrom(_example(document["context"]))
    if "examples" not in document:
        raise _format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _format_error(document, "'examples' value is an empty array")
    for one in examples:
        listed.examples.append(_example(one))


def _example(given: Any) -> Any:
    if not isinstance(given, dict):
        raise Refusal("INVALID_ARGUMENT", f"Example must be JSON object but got JSON {_kind(given)}")
    example = example_pb2.Example()
    for name, content in given.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add_to_feature(name, value, feature)
    return example


def _add_to_feature(name: str, value: Any, feature: Any) -> None:
    field: str
    if isinstance(value, bool):
        field, value = "int64_list", int(value)
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise Refusal("INVALID_ARGUMENT", f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        field = "int64_list"
    elif isinstance(value, float):
        field = "float_list"
    elif isinstance(value, str):
        field, value = "bytes_list", value.encode()
    elif _is_base64(value):
        field, value = "bytes_list", _decoded(value)
    else:
        raise Refusal("INVALID_ARGUMENT", f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")
    kind = feature.WhichOneof("kind")
    if kind not in (None, field):
        spelled = kind.removesuffix("_list")
        raise Refusal("INVALID_ARGUMENT", f"Unexpected element type in feature: {name} expecting type: {spelled}")
    getattr(feature, field).value.append(value)


# --- answers --------------------------------------------------------------------------------------------------------


def write_outputs(outputs: Mapping[str, Array], form: Format) -> bytes:
    """The outputs of a signature as JSON.

    Raises:
        Refusal: INVALID_ARGUMENT: they do not share a first dimension, which rows need.
    """
    if not outputs:
        raise Refusal("INVALID_ARGUMENT", "Cannot convert empty tensor map to JSON")
    nested = {alias: _nested(alias, outputs[alias]) for alias in sorted(outputs)}
    if form == "column":
        only = next(iter(nested.values())) if len(nested) == 1 else nested
        return _written({"outputs": only})
    _check_rows(outputs)
    if len(nested) == 1:
        return _written({"predictions": next(iter(nested.values()))})
    rows = [dict(zip(nested, values, strict=True)) for values in zip(*nested.values(), strict=True)]
    return _written({"predictions": rows})


def _check_rows(outputs: Mapping[str, Array]) -> None:
    size = -1
    for alias in sorted(outputs):
        shape = outputs[alias].shape
        if not shape:
            raise Refusal("INVALID_ARGUMENT", f"Tensor name: {alias} has no shape information ")
        if size >= 0 and shape[0] != size:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"Tensor name: {alias} has inconsistent batch size: {shape[0]} expecting: {size}",
            )
        size = shape[0]


def _nested(alias: str, values: Array) -> Any:
    dtype = data_type(values)
    if dtype == types_pb2.DT_STRING:
        as_bytes = alias.endswith("_bytes")
        return _shaped([_text(value, as_bytes) for value in values.reshape(-1).tolist()], values.shape)
    if dtype == types_pb2.DT_FLOAT:
        return _shaped(_shortest(values.reshape(-1)), values.shape)
    if dtype not in (*_RANGES, types_pb2.DT_DOUBLE, types_pb2.DT_BOOL):
        raise Refusal("INVALID_ARGUMENT", f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")
    return values.tolist()


def _shortest(values: Iterable[float]) -> list[float]:
    """Floats of 32 bits as the shortest decimals that read back as the same: 0.2, and not 0.200000003."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]


def _shaped(values: list[Any], shape: _SHAPE) -> Any:
    if len(shape) == 1:
        return values
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape).tolist()


def _text(value: bytes, as_bytes: bool) -> Any:
    if as_bytes:
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value.decode("utf-8", errors="replace")


def results_of_classes(result: Any) -> bytes:
    """A `ClassificationResult` as JSON: per example a list of [class, score]."""
    rows = [
        [[one.label, score] for one, score in zip(row.classes, _shortest([c.score for c in row.classes]), strict=True)]
        for row in result.classifications
    ]
    return _written({"results": rows})


def results_of_regressions(result: Any) -> bytes:
    """A `RegressionResult` as JSON: one number per example."""
    return _written({"results": _shortest([one.value for one in result.regressions])})


def _written(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()


# --- reading --------------------------------------------------------------------------------------------------------


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise Refusal("INVALID_ARGUMENT", "JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise Refusal("INVALID_ARGUMENT", "JSON Parse error: nested too deeply") from error
    except (ValueError, UnicodeDecodeError) as error:
        where = f" at offset: {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Refusal("INVALID_ARGUMENT", f"JSON Parse error: {reason}{where}") from error
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    return document


def _signature(document: Mapping[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        problem = "not formatted correctly. 'signature_name' key must be a string value."
        raise _format_error(document, problem)
    return name


def _format_error(value: Any, problem: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", f"JSON Value: {_shown(value)} {problem}")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _decoded(value: Any) -> bytes:
    if not _is_base64(value):
        raise Refusal("INVALID_ARGUMENT", f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = re.sub(r"\s", "", value["b64"])
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("INVALID_ARGUMENT", "Unable to base64 decode") from error


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:_SHOWN]
    except RecursionError:
        return "(nested too deeply)"


def _kind(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "Number")
