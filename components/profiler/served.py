"""A SavedModel as a model server loads it, asked through its signatures. For processes that measure, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.arrays import Array
from components.profiler import runtime
from components.profiler.rows import CannotAskError, Rows
from components.trainer.requests import MISSING_INT

__all__ = ["EXAMPLES", "FEATURES", "RAW", "ServedModel", "parameters"]


RAW, EXAMPLES, FEATURES = "serving_default", "serving_examples", "model_features"
"""Signatures: from raw features, from tf.Examples, and from raw features to what the model is fed."""

_SERVE = "serve"
_OUTPUT = "outputs"


class ServedModel:
    """A graph and a session with TensorFlow's default threads, as a server has them."""

    def __init__(self, path: str) -> None:
        graph = runtime.Graph()
        with graph.as_default():
            self._session = runtime.Session(graph=graph)
            self._signatures = runtime.load(self._session, [_SERVE], path).signature_def
        self._callers: dict[str, tuple[list[str], Callable[..., list[Array]]]] = {}

    def close(self) -> None:
        """Lets graph and session go."""
        self._session.close()

    def requests(self, rows: Rows, columns: Mapping[str, str], signature: str = RAW) -> list[Array]:
        """One tensor per input of a signature, for all rows.

        Args:
            rows: real ones.
            columns: name in a request to column.
            signature: its name.

        Raises:
            CannotAskError: the signature is not there, or asks for what the rows do not have.
        """
        if signature == EXAMPLES:
            return [np.array(rows.examples, object)]
        return [
            _tensor(name, info, rows, columns.get(name, ""))
            for name, info in sorted(self._signature(signature).inputs.items())
        ]

    def caller(self, signature: str = RAW) -> tuple[list[str], Callable[..., list[Array]]]:
        """Names of the outputs, and what gives them for the tensors of `requests`.

        The one named `outputs` alone, where the signature has it. Made once, for its first call optimizes the graph.

        Raises:
            CannotAskError: the signature is not there.
        """
        if signature in self._callers:
            return self._callers[signature]
        found = self._signature(signature)
        outputs = {_OUTPUT: found.outputs[_OUTPUT]} if _OUTPUT in found.outputs else dict(found.outputs)
        names = sorted(outputs)
        feeds = [info.name for _, info in sorted(found.inputs.items())]
        call = self._session.make_callable([outputs[name].name for name in names], feed_list=feeds)
        self._callers[signature] = names, call
        return names, call

    def _signature(self, name: str) -> Any:
        if name not in self._signatures:
            raise CannotAskError(f"has no signature {name!r}")
        return self._signatures[name]


def parameters(path: str) -> int:
    """How many numbers the variables of a SavedModel hold; 0 where it has no variables."""
    from tensorflow.python.training.py_checkpoint_reader import NewCheckpointReader

    index = Path(path, "variables", "variables")
    if not index.with_suffix(".index").is_file():
        return 0
    reader = NewCheckpointReader(str(index))
    kinds = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sum(math.prod(shape) for name, shape in shapes.items() if kinds[name] != runtime.dtypes.string)


def _tensor(name: str, info: Any, rows: Rows, column: str) -> Array:
    """A column as a request gives it: `""`, NaN or the smallest int64 where a row has no value."""
    if column not in rows.values:
        raise CannotAskError(f"asks for {name!r}, which the data do not have")
    values, present = rows.values[column], rows.present[column]
    kind = runtime.dtypes.as_dtype(info.dtype)
    if (values.dtype.kind == "S") != (kind == runtime.dtypes.string):
        raise CannotAskError(f"asks for {name!r} as {kind.name}, and the column {column!r} holds something else")
    if kind == runtime.dtypes.string:
        tensor = np.where(present, values, b"").astype(object)
    elif kind.is_floating:
        tensor = np.where(present, values, np.nan).astype(kind.as_numpy_dtype)
    else:
        tensor = np.where(present, values, MISSING_INT).astype(kind.as_numpy_dtype)
    return tensor[:, np.newaxis] if len(info.tensor_shape.dim) == 2 else tensor
