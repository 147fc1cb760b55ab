"""Requests that a version carries with it and that run before it is made available, as TF Serving does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.inference import Inference
from serving.server.model import LoadedModel
from serving.server.status import Refusal

__all__ = ["MAX_RECORDS", "REQUESTS_FILE", "warm_up"]

REQUESTS_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000


def warm_up(inference: Inference, model: LoadedModel, folder: Path) -> int:
    """Runs a version's warm-up requests.

    Args:
        inference: that runs them.
        model: the version, not available to clients yet.
        folder: of the version.

    Returns:
        The number of requests; 0 where there is no such file.

    Raises:
        Refusal: the file is damaged or holds too many, or a request fails: the version then fails to load.
    """
    file = folder / REQUESTS_FILE
    if not file.is_file():
        return 0
    count = 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(file)):
            count += 1
            if count > MAX_RECORDS:
                raise Refusal(
                    "INVALID_ARGUMENT", f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}"
                )
            _run(inference, model, record, file)
    except tf.errors.DataLossError as error:
        raise Refusal("DATA_LOSS", error.message) from error
    return count


def _run(inference: Inference, model: LoadedModel, record: bytes, file: Path) -> None:
    log: Any = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except Exception as error:
        raise Refusal("INVALID_ARGUMENT", f"Failed to parse warmup record from {file}") from error
    kind = log.WhichOneof("log_type")
    calls = {
        "predict_log": inference.predict_on,
        "classify_log": inference.classify_on,
        "regress_log": inference.regress_on,
        "multi_inference_log": inference.multi_inference_on,
    }
    if kind not in calls:
        raise Refusal("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind}")
    request = getattr(log, kind).request
    if kind == "multi_inference_log":
        for task in request.tasks:
            task.model_spec.name = model.name
    calls[kind](model, request)
