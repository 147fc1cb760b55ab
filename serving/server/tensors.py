"""Tensors between their wire format (`TensorProto`) and NumPy, without TensorFlow's general and slower conversion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.status import Refusal

__all__ = ["MAX_FILLED", "Array", "data_type", "decode", "dtype_name", "encode", "numpy_type"]

Array = npt.NDArray[Any]

MAX_FILLED = 1 << 22
"""Elements of a tensor that need not be sent: the last value stands for all that follow, so that a few bytes may claim
any number of them."""
_MAX_RANK = 64
"""NumPy's; without a bound the product of a million huge dimensions alone would take minutes."""

_FIELDS: dict[int, tuple[type, str]] = {
    types_pb2.DT_FLOAT: (np.float32, "float_val"),
    types_pb2.DT_DOUBLE: (np.float64, "double_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"),
    types_pb2.DT_INT16: (np.int16, "int_val"),
    types_pb2.DT_INT8: (np.int8, "int_val"),
    types_pb2.DT_UINT8: (np.uint8, "int_val"),
    types_pb2.DT_INT64: (np.int64, "int64_val"),
    types_pb2.DT_UINT32: (np.uint32, "uint32_val"),
    types_pb2.DT_UINT64: (np.uint64, "uint64_val"),
    types_pb2.DT_BOOL: (np.bool_, "bool_val"),
    types_pb2.DT_STRING: (object, "string_val"),
}


def numpy_type(dtype: int) -> type | None:
    """NumPy's type for a `DataType`; None where this module leaves it to TensorFlow."""
    return _FIELDS[dtype][0] if dtype in _FIELDS else None


_TYPES = {np.dtype(kind): dtype for dtype, (kind, _) in _FIELDS.items()}


def data_type(values: Array) -> int:
    """The `DataType` of an array; bytes, or objects that are such, are strings."""
    found = _TYPES.get(values.dtype)
    return int(tf.as_dtype(values.dtype).as_datatype_enum) if found is None else found


def dtype_name(dtype: int) -> str:
    """How TensorFlow spells a type in its messages (`float`, `string`, `int64`)."""
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower() if dtype else "invalid"


def decode(name: str, proto: Any) -> Array:
    """The values of a `TensorProto`.

    Args:
        name: of the input, for messages.
        proto: values as bytes or one by one; where there are fewer than the shape says, the last one fills the rest.

    Raises:
        Refusal: INVALID_ARGUMENT: the proto contradicts itself, or is too large.
    """
    shape = _shape_of(name, proto)
    known = _FIELDS.get(proto.dtype)
    try:
        if known is not None:
            return _of(proto, shape, *known)
        if not proto.tensor_content:
            _check_filled(shape, 0)
        return np.asarray(tf.make_ndarray(proto))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Refusal("INVALID_ARGUMENT", f"tensor parsing error: {name}") from error


def _shape_of(name: str, proto: Any) -> tuple[int, ...]:
    dimensions = proto.tensor_shape.dim
    if not proto.tensor_shape.unknown_rank and len(dimensions) <= _MAX_RANK:
        shape = tuple(dim.size for dim in dimensions)
        if min(shape, default=0) >= 0:
            return shape
    raise Refusal("INVALID_ARGUMENT", f"tensor parsing error: {name}")


def _check_filled(shape: tuple[int, ...], given: int) -> None:
    if math.prod(shape) > max(given, MAX_FILLED):
        raise Refusal(
            "INVALID_ARGUMENT",
            f"a tensor of {math.prod(shape)} elements came with {given}: at most {MAX_FILLED} may be left out",
        )


def _of(proto: Any, shape: tuple[int, ...], kind: type, field: str) -> Array:
    if proto.tensor_content:
        if kind is object:
            raise ValueError("strings stand in string_val")
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    given = getattr(proto, field)
    values = np.empty(len(given), object) if kind is object else np.array(given, kind)
    if kind is object:
        values[:] = given
    size = math.prod(shape)
    _check_filled(shape, len(values))
    if len(values) < size:
        fill = values[-1:] if len(values) else _zero(kind)
        values = np.concatenate([values, np.repeat(fill, size - len(values))])
    return values.reshape(shape)


def _zero(kind: type) -> Array:
    return np.array([b""], object) if kind is object else np.zeros(1, kind)


def encode(values: Array, proto: Any | None = None, dtype: int | None = None) -> Any:
    """The values as a `TensorProto`, one by one, as TF Serving answers.

    Args:
        values: of any shape; strings as an array of `bytes` objects.
        proto: to be filled; a new one where there is none.
        dtype: where it is known.
    """
    proto = tensor_pb2.TensorProto() if proto is None else proto
    dtype = data_type(values) if dtype is None else dtype
    known = _FIELDS.get(dtype)
    if known is None:
        proto.CopyFrom(tf.make_tensor_proto(values, dtype=tf.as_dtype(dtype)))
        return proto
    proto.dtype = dtype
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = values.reshape(-1)
    getattr(proto, known[1]).extend(flat.tolist())
    return proto
