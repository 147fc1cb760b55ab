"""A loaded version of a model: signatures in, tensors out.

A SavedModel runs in a session of TensorFlow 1's kind, through a callable that is made once for each set of outputs and
runs in the caller's thread. That takes a tenth of the time of calling the signature, and gives the same values.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.payload import TFLITE_NAME
from serving.server.status import Code, Refusal
from serving.server.tensors import Array, dtype_name, numpy_type

__all__ = ["DEFAULT_SIGNATURE", "LoadedModel", "Runnable", "load"]

DEFAULT_SIGNATURE = "serving_default"
_TAG = "serve"
_MAX_CALLABLES = 64
"""Sets of inputs and outputs of one version that are kept compiled."""
_INIT_OP = "__saved_model_init_op"

_CODES: dict[type[Exception], Code] = {
    tf.errors.InvalidArgumentError: "INVALID_ARGUMENT",
    tf.errors.FailedPreconditionError: "FAILED_PRECONDITION",
    tf.errors.NotFoundError: "NOT_FOUND",
    tf.errors.OutOfRangeError: "OUT_OF_RANGE",
    tf.errors.ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    tf.errors.UnimplementedError: "UNIMPLEMENTED",
    tf.errors.DataLossError: "DATA_LOSS",
    tf.errors.InternalError: "INTERNAL",
    tf.errors.CancelledError: "CANCELLED",
    tf.errors.DeadlineExceededError: "DEADLINE_EXCEEDED",
    tf.errors.UnavailableError: "UNAVAILABLE",
}


class Runnable(Protocol):
    """What runs the graph of one payload."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """`SignatureDef` by name."""

    def run(self, signature: str, feeds: Sequence[str], fetches: Sequence[str], values: Sequence[Array]) -> list[Array]:
        """Values of the outputs `fetches` for `values` of the inputs `feeds`, both by alias."""

    def close(self) -> None:
        """Gives its memory back."""


class LoadedModel:
    """One version, in use by any number of threads until it is closed.

    Attributes:
        name: of the model.
        version: its number.
        signatures: `SignatureDef` by name.
    """

    def __init__(self, name: str, version: int, runnable: Runnable) -> None:
        self.name = name
        self.version = version
        self.signatures: Mapping[str, Any] = runnable.signatures
        self._runnable = runnable
        self._idle = threading.Condition()
        self._users = 0

    def acquire(self) -> None:
        """Keeps it loaded until `release`; whoever calls it makes sure that it is not closed yet."""
        with self._idle:
            self._users += 1

    def release(self) -> None:
        """Lets it go."""
        with self._idle:
            self._users -= 1
            self._idle.notify_all()

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs a signature.

        Args:
            signature: its name.
            inputs: values by alias; their types are checked against the signature, shapes by the graph itself.
            outputs: aliases of what is wanted.

        Raises:
            Refusal: the graph does not take the values, with TensorFlow's own message.
        """
        expected = self.signatures[signature].inputs
        for index, (alias, values) in enumerate(inputs.items()):
            _check_type(index, values, expected[alias].dtype)
        try:
            return self._runnable.run(signature, list(inputs), outputs, list(inputs.values()))
        except tf.errors.OpError as error:
            raise Refusal(_CODES.get(type(error), "UNKNOWN"), error.message) from error
        except (TypeError, ValueError) as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        except RuntimeError as error:  # of TensorFlow Lite
            raise Refusal("INTERNAL", str(error)) from error

    def close(self, timeout_s: float | None = None) -> None:
        """Unloads it once no request runs on it, or the time is over."""
        with self._idle:
            self._idle.wait_for(lambda: self._users == 0, timeout_s)
        self._runnable.close()


def _check_type(index: int, values: Array, dtype: int) -> None:
    kind = numpy_type(dtype)
    if kind is None or values.dtype == np.dtype(kind):
        return
    got = "string" if values.dtype == object else tf.as_dtype(values.dtype).name
    got = {"float32": "float", "float64": "double"}.get(got, got)
    raise Refusal("INVALID_ARGUMENT", f"Expects arg[{index}] to be {dtype_name(dtype)} but {got} is provided")


def load(path: str | os.PathLike[str], *, intra_op_threads: int = 0, inter_op_threads: int = 0) -> Runnable:
    """Loads a payload: a SavedModel directory, or a directory that holds a `model.tflite`.

    Args:
        path: of the version's directory.
        intra_op_threads, inter_op_threads: of TensorFlow; 0 lets it choose.

    Raises:
        Refusal: NOT_FOUND where there is no model in it, else whatever TensorFlow says.
    """
    folder = Path(path)
    try:
        if (folder / TFLITE_NAME).is_file():
            return _TFLiteModel(folder / TFLITE_NAME, intra_op_threads or 1)
        if not any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise Refusal(
                "NOT_FOUND",
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}. "
                "Check that the directory exists and that you have the right permissions for accessing it.",
            )
        return _SavedModel(folder, intra_op_threads, inter_op_threads)
    except tf.errors.OpError as error:
        raise Refusal(_CODES.get(type(error), "UNKNOWN"), error.message) from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise Refusal("UNKNOWN", str(error)) from error


class _SavedModel:
    def __init__(self, folder: Path, intra_op_threads: int, inter_op_threads: int) -> None:
        self._graph = tf.Graph()
        options = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
        )
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph, config=options)
            try:
                meta = tf.compat.v1.saved_model.load(self._session, [_TAG], str(folder))
            except BaseException:
                self._session.close()
                raise
        self.signatures: Mapping[str, Any] = {name: one for name, one in meta.signature_def.items() if name != _INIT_OP}
        self._callables: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    def run(self, signature: str, feeds: Sequence[str], fetches: Sequence[str], values: Sequence[Array]) -> list[Array]:
        key = (signature, tuple(feeds), tuple(fetches))
        call = self._callables.get(key)
        if call is None:
            with self._lock:
                call = self._callables.get(key) or self._callable(*key)
                while len(self._callables) >= _MAX_CALLABLES:
                    self._callables.pop(next(iter(self._callables)))
                self._callables[key] = call
        result: list[Array] = call(*values)
        return result

    def _callable(self, signature: str, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        definition = self.signatures[signature]
        feed = [definition.inputs[alias].name for alias in feeds]
        fetch = [definition.outputs[alias].name for alias in fetches]
        make = getattr(self._session, "_make_callable_from_options", None)
        if make is None:  # a private name; the public one is slower by half
            return self._session.make_callable(fetch, feed)
        options = config_pb2.CallableOptions(feed=feed, fetch=fetch)
        options.run_options.inter_op_thread_pool = -1  # in the caller's thread
        return make(options)

    def close(self) -> None:
        with self._lock:
            self._callables.clear()
            self._session.close()


class _TFLiteModel:
    """A `.tflite` file behind the same face; an interpreter for each thread, for it holds its tensors."""

    def __init__(self, file: Path, threads: int) -> None:
        self._bytes = file.read_bytes()
        self._threads = threads
        self._local = threading.local()
        runners = self._interpreter().get_signature_list()
        if not runners:
            raise Refusal("FAILED_PRECONDITION", f"{file} has no signature: it cannot be served by name")
        self.signatures: Mapping[str, Any] = {name: self._signature(name) for name in runners}

    def run(self, signature: str, feeds: Sequence[str], fetches: Sequence[str], values: Sequence[Array]) -> list[Array]:
        runner = self._interpreter().get_signature_runner(signature)
        outputs = runner(**dict(zip(feeds, values, strict=True)))
        return [np.asarray(outputs[alias]) for alias in fetches]

    def close(self) -> None:
        self._local = threading.local()

    def _interpreter(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        found = getattr(self._local, "interpreter", None)
        if found is None:
            found = Interpreter(model_content=self._bytes, num_threads=self._threads)
            self._local.interpreter = found
        return found

    def _signature(self, name: str) -> Any:
        runner = self._interpreter().get_signature_runner(name)
        definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        for details, target in (
            (runner.get_input_details(), definition.inputs),
            (runner.get_output_details(), definition.outputs),
        ):
            for alias, detail in details.items():
                _describe(target[alias], detail)
        return definition


def _describe(info: Any, detail: Mapping[str, Any]) -> None:
    info.name = str(detail["name"])
    kind = detail["dtype"]
    info.dtype = types_pb2.DT_STRING if kind in (np.bytes_, np.object_) else tf.as_dtype(kind).as_datatype_enum
    for size in detail["shape_signature"]:
        info.tensor_shape.dim.add(size=int(size))
