"""Writes into a SavedModel the requests that it carries: golden ones with the model's answers, and warm-up.

They are real rows, the first of the split that the reference is made of, so that the digest of what ships covers them and
everything that measures the payload measures it with them. The bytes follow from the rows and the model alone.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.arrays import Array
from components.trainer.requests import MISSING_INT
from serving.golden import GOLDEN_FILE, WARM_UP_FILE, Column, Golden

__all__ = ["first_records", "write_requests"]

_GOLDEN_ROWS = 8
_WARM_UP_ROWS = (1, 64)
"""Rows of a warm-up request, for each of the two signatures that servers are asked through: one, and a batch."""

_READ = max(_WARM_UP_ROWS)
_BATCH_BYTES = 1 << 20
"""Of a warm-up request at most, as far as one row is not larger: images make it a smaller batch."""
_KINDS = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}


def first_records(patterns: Sequence[str], limit: int = _READ) -> list[bytes]:
    """The first serialized tf.Examples of a split, in the order of its files."""
    files = [file for pattern in patterns for file in sorted(tf.io.gfile.glob(pattern))]
    return list(islice(_records(files), limit))


def write_requests(
    saved_model: Path,
    records: Sequence[bytes],
    predictions: Array | None,
    spec: Mapping[str, Any],
    names: Mapping[str, str],
) -> None:
    """Writes both files below `assets.extra`; nothing where no row can be asked about.

    A row that a raw request cannot say (a required value is missing, or text is there and empty) is left out.

    Args:
        saved_model: its folder.
        records: serialized tf.Examples.
        predictions: `[rows, ...]`, the model's answers to the first of the records; None where there are none.
        spec: parsing specification of the raw features.
        names: raw features that `serving_default` takes, with the name that each has in a request.
    """
    said = [(place, _said(record, spec, names)) for place, record in enumerate(records)]
    rows = [_Row(place, records[place], values) for place, values in said if values is not None]
    if not rows:
        return
    (saved_model / GOLDEN_FILE).parent.mkdir(exist_ok=True)
    golden = [row for row in rows if predictions is not None and row.place < len(predictions)]
    golden = golden[: max(1, min(_GOLDEN_ROWS, _BATCH_BYTES // max(len(row.record) for row in rows)))]
    if golden and predictions is not None:
        record = _golden(golden, predictions, spec, names)
        (saved_model / GOLDEN_FILE).write_text(record.model_dump_json() + "\n", encoding="utf-8")
    with tf.io.TFRecordWriter(str(saved_model / WARM_UP_FILE)) as writer:
        most = max(1, _BATCH_BYTES // max(len(row.record) for row in rows))
        for size in sorted({min(size, most) for size in _WARM_UP_ROWS}):
            for log in _warm_up([rows[index % len(rows)] for index in range(size)], spec, names):
                writer.write(log.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Row:
    """A row: where it stands in the split, as a tf.Example, and as a raw request gives it, by feature."""

    place: int
    record: bytes
    values: Mapping[str, Any]


def _golden(rows: Sequence[_Row], predictions: Array, spec: Mapping[str, Any], names: Mapping[str, str]) -> Golden:
    columns = {
        names[feature]: Column(
            dtype=spec[feature].dtype.name, values=tuple(_spelled(row.values[feature]) for row in rows)
        )
        for feature in sorted(names)
    }
    return Golden(
        inputs=columns,
        examples=tuple(base64.b64encode(row.record).decode("ascii") for row in rows),
        predictions=tuple(predictions[row.place].tolist() for row in rows),
    )


def _warm_up(rows: Sequence[_Row], spec: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Any]:
    """A request for each of the two signatures, as TF Serving takes it from the file."""
    from tensorflow_serving.apis import prediction_log_pb2

    columns = {
        names[feature]: tf.make_tensor_proto([row.values[feature] for row in rows], spec[feature].dtype)
        for feature in sorted(names)
    }
    examples = {"examples": tf.make_tensor_proto([row.record for row in rows], tf.string)}
    for signature, inputs in (("serving_default", columns), ("serving_examples", examples)):
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tensor)
        yield log


def _records(files: Iterable[str]) -> Iterator[bytes]:
    for file in files:
        kind = "GZIP" if file.endswith(".gz") else ""
        yield from (one.numpy() for one in tf.data.TFRecordDataset(file, kind))


def _said(record: bytes, spec: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any] | None:
    """The values of a row as a raw request gives them; None where it cannot give them."""
    features = tf.train.Example.FromString(record).features.feature
    said: dict[str, Any] = {}
    for feature in names:
        form = spec[feature]
        found = list(getattr(features[feature], _KINDS[form.dtype]).value) if feature in features else []
        if any(_means_missing(value) for value in found):
            return None
        if isinstance(form, tf.io.FixedLenFeature):
            shape = list(form.shape)
            if len(found) != math.prod(shape):
                return None
            said[feature] = found[0] if shape in ([], [1]) else np.reshape(np.array(found, object), shape).tolist()
        elif len(found) > 1:
            return None
        else:
            said[feature] = found[0] if found else _missing(form.dtype)
    return said


def _missing(dtype: tf.DType) -> Any:
    return {tf.string: b"", tf.float32: math.nan, tf.int64: MISSING_INT}[dtype]


def _means_missing(value: Any) -> bool:
    return value in (b"", MISSING_INT) or (isinstance(value, float) and math.isnan(value))


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}
