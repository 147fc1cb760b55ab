"""The messages of TF Serving's gRPC interface that a push needs, without TensorFlow.

`tensorflow_serving.apis` imports TensorFlow, which takes seconds. These have the same numbers and types on the wire, after
`model.proto`, `get_model_status.proto` and `predict.proto` of TF Serving; tensors are those that TensorBoard carries.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Messages", "from_tensor", "messages", "to_tensor"]

_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_FIELDS = {"string": "string_val", "float32": "float_val", "float64": "double_val", "int64": "int64_val",
           "int32": "int_val"}  # fmt: skip
_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "string": 7, "int64": 9}
_NUMPY = {1: ("float_val", "<f4"), 2: ("double_val", "<f8"), 3: ("int_val", "<i4"), 9: ("int64_val", "<i8")}


@dataclass(frozen=True)
class Messages:
    """Classes of messages, and the names of the states of a version."""

    status_request: Any
    status_response: Any
    predict_request: Any
    predict_response: Any

    @staticmethod
    def state(number: int) -> str:
        """The name of a state."""
        return _STATES.get(number, str(number))


@functools.cache
def messages() -> Messages:
    """The classes, made once."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
    from tensorboard.compat.proto import tensor_pb2

    tensor, wrapped = tensor_pb2.TensorProto.DESCRIPTOR, wrappers_pb2.Int64Value.DESCRIPTOR
    package = "satisfice.serving"
    file = descriptor_pb2.FileDescriptorProto(
        name="satisfice/serving.proto",
        package=package,
        syntax="proto3",
        dependency=[tensor.file.name, wrapped.file.name],
    )
    spec = f".{package}.ModelSpec"
    _message(
        file,
        "ModelSpec",
        ("name", 1, "string"), ("version", 2, f".{wrapped.full_name}"), ("signature_name", 3, "string"),
    )  # fmt: skip
    _message(file, "Status", ("error_code", 1, "int32"), ("error_message", 2, "string"))
    _message(
        file,
        "VersionStatus",
        ("version", 1, "int64"), ("state", 2, "int32"), ("status", 3, f".{package}.Status"),
    )  # fmt: skip
    _message(file, "StatusRequest", ("model_spec", 1, spec))
    _message(file, "StatusResponse", ("model_version_status", 1, f".{package}.VersionStatus", "repeated"))
    request = _message(file, "PredictRequest", ("model_spec", 1, spec))
    _map(request, f".{package}.PredictRequest", "inputs", 2, f".{tensor.full_name}")
    response = _message(file, "PredictResponse", ("model_spec", 2, spec))
    _map(response, f".{package}.PredictResponse", "outputs", 1, f".{tensor.full_name}")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return Messages(
        *(
            message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in ("StatusRequest", "StatusResponse", "PredictRequest", "PredictResponse")
        )
    )


def to_tensor(dtype: str, values: Sequence[Any]) -> Any:
    """A TensorProto of values in nested lists of one shape.

    Args:
        dtype: `string` (bytes), `float32`, `float64`, `int32` or `int64`.
        values: rows first.
    """
    from tensorboard.compat.proto import tensor_pb2

    flat, shape = list(values), [len(values)]
    while flat and isinstance(flat[0], list | tuple):
        shape.append(len(flat[0]))
        flat = [one for row in flat for one in row]
    tensor = tensor_pb2.TensorProto(dtype=_NUMBERS[dtype])
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    getattr(tensor, _FIELDS[dtype]).extend(flat)
    return tensor


def from_tensor(tensor: Any) -> Any:
    """The numbers of a TensorProto in nested lists; None where they are no numbers."""
    import numpy as np

    if tensor.dtype not in _NUMPY:
        return None
    field, kind = _NUMPY[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, kind).reshape(shape).tolist()
    given = list(getattr(tensor, field)) or [0]
    given += given[-1:] * (math.prod(shape) - len(given))  # a value that repeats to the end is sent once
    return np.array(given[: math.prod(shape)], kind).reshape(shape).tolist()


def _message(file: Any, name: str, *fields: tuple[Any, ...]) -> Any:
    message = file.message_type.add(name=name)
    for field in fields:
        _field(message, *field)
    return message


def _map(message: Any, full_name: str, name: str, number: int, value: str) -> None:
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    _field(entry, "key", 1, "string")
    _field(entry, "value", 2, value)
    _field(message, name, number, f"{full_name}.{entry.name}", "repeated")


def _field(message: Any, name: str, number: int, kind: str, label: str = "optional") -> None:
    from google.protobuf import descriptor_pb2

    proto = descriptor_pb2.FieldDescriptorProto
    labels = {"optional": proto.LABEL_OPTIONAL, "repeated": proto.LABEL_REPEATED}
    scalars: Mapping[str, int] = {"string": proto.TYPE_STRING, "int32": proto.TYPE_INT32, "int64": proto.TYPE_INT64}
    added = message.field.add(name=name, number=number, label=labels[label])
    if kind in scalars:
        added.type = scalars[kind]
    else:
        added.type, added.type_name = proto.TYPE_MESSAGE, kind
