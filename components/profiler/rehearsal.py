"""Runs the requests that a payload carries, as a server would. For processes that measure, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.profiler.served import RAW, ServedModel
from serving.golden import WARM_UP_FILE, Golden, difference, read_golden

__all__ = ["rehearse"]

_MAX_WARM_UP = 1000
"""More than that, and TF Serving fails the load."""


def rehearse(model: ServedModel, path: str) -> dict[str, Any]:
    """Runs golden and warm-up requests.

    Args:
        model: loaded from `path`.
        path: of the SavedModel.

    Returns:
        `golden` and `warm_up`, the number of requests that were answered as they should be, and `problem`: what was wrong,
        in words that follow the payload's name; "" where nothing was. What TensorFlow raises for a request is raised.
    """
    golden = read_golden(path)
    done = {"golden": 0, "warm_up": 0}
    if golden is not None:
        for signature, arrays in _requests(golden).items():
            wrong = difference(list(golden.predictions), _answer(model, signature, arrays, golden.output))
            if wrong:
                return {**done, "problem": f"answers otherwise than the trained model: {signature} answered {wrong}"}
            done["golden"] += golden.rows
    for signature, arrays in _warm_up(Path(path, WARM_UP_FILE)):
        done["warm_up"] += 1
        if done["warm_up"] > _MAX_WARM_UP:
            return {**done, "problem": f"carries more than {_MAX_WARM_UP:,} warm-up requests, which servers refuse"}
        _run(model, signature, arrays)
    return {**done, "problem": ""}


def _requests(golden: Golden) -> dict[str, dict[str, Any]]:
    """Signature to its inputs by name."""
    columns = {
        name: np.array(column.plain(), object if column.dtype == "string" else column.dtype)
        for name, column in golden.inputs.items()
    }
    return {
        golden.signature: columns,
        golden.examples_signature: {"examples": np.array(golden.records(), object)},
    }


def _warm_up(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The predict requests of the file; others are a server's to run."""
    from tensorflow.python.framework.tensor_util import MakeNdarray
    from tensorflow.python.lib.io.tf_record import tf_record_iterator
    from tensorflow_serving.apis import prediction_log_pb2

    if not file.is_file():
        return
    for record in tf_record_iterator(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            yield (
                request.model_spec.signature_name or RAW,
                {name: MakeNdarray(tensor) for name, tensor in request.inputs.items()},
            )


def _run(model: ServedModel, signature: str, arrays: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """Names of the outputs, and their values."""
    names, call = model.caller(signature)
    return names, call(*(arrays[name] for name in sorted(arrays)))


def _answer(model: ServedModel, signature: str, arrays: dict[str, Any], output: str) -> Any:
    """The values of one output in lists; none where there is no such output."""
    names, values = _run(model, signature, arrays)
    return values[names.index(output)].tolist() if output in names else []
