"""Runs a `.tflite` file on many rows, as a device would run it on each: LiteRT's interpreter, no TensorFlow.

Rows go in batches, where the file takes more than one at a time, and the batches to several interpreters at once.
Integers are made of real numbers, and real numbers of integers, by what the file says of its arguments and results.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import InterpreterError, shorten

__all__ = ["BATCH_ROWS", "Interpreted", "ailment", "predict"]

Array = npt.NDArray[Any]
Features = Mapping[str, Array]

BATCH_ROWS = 256


class Interpreted:
    """A file in an interpreter of its own.

    Attributes:
        batch_rows: rows of each call: as asked for, or 1 where the file takes one at a time.
    """

    def __init__(self, path: str | Path, batch_rows: int = BATCH_ROWS, threads: int = 1) -> None:
        """Loads a file.

        Args:
            path: of the file.
            batch_rows: rows of each call, where the file takes more than one.
            threads: that one call may use.

        Raises:
            InterpreterError: it does not load: it is damaged, or an operator has no kernel.
        """
        from ai_edge_litert.interpreter import Interpreter

        self._path = str(path)
        try:
            self._interpreter = Interpreter(model_path=self._path, num_threads=threads)
            self.batch_rows = self._resized(batch_rows)
            self._arguments, self._results = self._called()
        except (RuntimeError, ValueError) as error:
            raise _broken(self._path, "does not load", error) from error

    def predict(self, features: Features) -> Array:
        """Real numbers `[rows, outputs]`, one row for each of the features'.

        Args:
            features: by the names of the arguments, `[rows, …]` each, not quantized.

        Raises:
            InterpreterError: a feature is missing or has another shape, or the file does not run.
        """
        missing = sorted(self._arguments.keys() - features.keys())
        if missing:
            raise InterpreterError(
                self._path, f"takes {', '.join(missing)}", got=", ".join(sorted(features)) or "nothing"
            )
        rows = len(features[next(iter(self._arguments))])
        parts = [
            self._batch(features, start, min(rows, start + self.batch_rows))
            for start in range(0, rows, self.batch_rows)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def again(self) -> None:
        """Runs the last call's arguments once more: the call alone, without handing anything in or out."""
        self._interpreter.invoke()

    def _batch(self, features: Features, start: int, stop: int) -> Array:
        for name, details in self._arguments.items():
            values = _filled(np.asarray(features[name][start:stop]), self.batch_rows)
            try:
                self._interpreter.set_tensor(details["index"], _quantized(values.reshape(details["shape"]), details))
            except ValueError as error:
                raise InterpreterError(
                    self._path,
                    f"does not take {name}",
                    expected=f"{details['dtype'].__name__} of shape {list(details['shape'])}",
                    got=f"{values.dtype.name} of shape {list(values.shape)}",
                ) from error
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise _broken(self._path, "does not run", error) from error
        found = _real(self._interpreter.get_tensor(self._results["index"]), self._results)
        return found.reshape(self.batch_rows, -1)[: stop - start]

    def _resized(self, rows: int) -> int:
        """Makes room for some rows; 1 where the file takes no more."""
        if rows > 1:
            try:
                for details in self._interpreter.get_input_details():
                    self._interpreter.resize_tensor_input(details["index"], [rows, *details["shape"][1:]], strict=True)
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError):
                from ai_edge_litert.interpreter import Interpreter

                self._interpreter = Interpreter(model_path=self._path, num_threads=1)
            else:
                return rows
        self._interpreter.allocate_tensors()
        return 1

    def _called(self) -> tuple[dict[str, Any], Any]:
        """Details of the arguments by name, and of the one result."""
        signatures = self._interpreter.get_signature_list()
        inputs = {one["index"]: one for one in self._interpreter.get_input_details()}
        outputs = self._interpreter.get_output_details()
        if len(outputs) != 1:
            raise InterpreterError(self._path, f"gives {len(outputs)} results", expected="one")
        if not signatures:
            return {details["name"]: details for details in inputs.values()}, outputs[0]
        runner = self._interpreter.get_signature_runner(next(iter(signatures)))
        return {name: inputs[one["index"]] for name, one in runner.get_input_details().items()}, outputs[0]


def predict(path: str | Path, features: Features, *, workers: int | None = None, batch_rows: int = BATCH_ROWS) -> Array:
    """What a file answers on many rows, `[rows, outputs]`, by several interpreters at once.

    Args:
        path: of the file.
        features: as for `Interpreted.predict`.
        workers: how many interpreters; None for one per core.
        batch_rows: rows of each call.

    Raises:
        InterpreterError: as `Interpreted`.
    """
    rows = len(next(iter(features.values()), ()))
    count = max(1, min(workers or len(os.sched_getaffinity(0)), -(-rows // batch_rows)))
    idle: queue.SimpleQueue[Interpreted] = queue.SimpleQueue()
    for _ in range(count):
        idle.put(Interpreted(path, batch_rows))

    def part(start: int) -> Array:
        model = idle.get()
        try:
            return model.predict({name: values[start : start + step] for name, values in features.items()})
        finally:
            idle.put(model)

    step = batch_rows * max(1, -(-rows // (batch_rows * count * 4)))
    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(part, range(0, rows, step)))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def ailment(predictions: Array, reference: Array) -> str:
    """Why answers cannot be those of a model that works, or "".

    Args:
        predictions: of the file, `[rows, outputs]`.
        reference: the SavedModel's on the same rows; where it is constant itself, a constant is no fault.
    """
    wrong = int((~np.isfinite(predictions)).any(axis=1).sum())
    if wrong:
        return (
            f"answers NaN or infinity on {wrong:,} of {len(predictions):,} rows: its weights were lost or a range overflows. "
            "Take another variant, or convert again."
        )
    if len(predictions) > 1 and (np.ptp(predictions, axis=0) == 0).all() and (np.ptp(reference, axis=0) > 0).any():
        return (
            f"answers the same, {shorten(str(predictions[0].tolist()))}, on all {len(predictions):,} rows: quantization "
            "flattened it. Check the representative rows, or take another variant."
        )
    return ""


def _filled(values: Array, rows: int) -> Array:
    """As many rows as a call takes: the last one again and again."""
    lacking = rows - len(values)
    return np.concatenate([values, np.repeat(values[-1:], lacking, axis=0)]) if lacking else values


def _quantized(values: Array, details: Mapping[str, Any]) -> Array:
    dtype, (scale, zero_point) = details["dtype"], details["quantization"]
    if not scale:
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    whole = np.rint(values.astype(np.float64) / scale) + zero_point
    stored: Array = np.clip(whole, limits.min, limits.max).astype(dtype)
    return stored


def _real(values: Array, details: Mapping[str, Any]) -> Array:
    scale, zero_point = details["quantization"]
    if not scale:
        return values.astype(np.float32, copy=True)
    real: Array = (np.float32(scale) * (values.astype(np.int64) - zero_point)).astype(np.float32)
    return real


def _broken(path: str, problem: str, error: Exception) -> InterpreterError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InterpreterError(path, f"{problem} in LiteRT's interpreter: {shorten(first)}", remedy="Convert it again.")
