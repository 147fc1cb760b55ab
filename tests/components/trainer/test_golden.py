"""The requests that a payload carries: real rows, the model's own answers, and the same bytes from the same rows."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.trainer.golden import first_records, write_requests
from components.trainer.requests import MISSING_INT
from serving.golden import GOLDEN_FILE, WARM_UP_FILE, read_golden
from tests.components.trainer.tiny import RAW_SPEC, Tiny, example

NAMES = {
    name: name.replace(".", "_").replace("2nd real", "f2nd_real")
    for name in ("pair", "one", "flat", "word", "whole.number", "2nd real")
}
PREDICTIONS = np.arange(10, dtype=np.float32).reshape(-1, 1) / 10


def logs(folder: Path) -> list[prediction_log_pb2.PredictionLog]:
    records = tf.data.TFRecordDataset(str(folder / WARM_UP_FILE))
    return [prediction_log_pb2.PredictionLog.FromString(one.numpy()) for one in records]


def test_rows_with_their_answers(tiny: Tiny, tmp_path: Path) -> None:
    """Each way of being missing is said as a raw request says it; the answers are those of the same rows."""
    records = first_records([tiny.validate])
    assert records == [example(index) for index in range(37, 47)]
    write_requests(tmp_path, records, PREDICTIONS, RAW_SPEC, NAMES)
    golden = read_golden(tmp_path)
    assert golden is not None
    assert golden.predictions == tuple([one] for one in PREDICTIONS[:8, 0].tolist())
    assert golden.records() == records[:8]
    assert golden.inputs["pair"].values[0] == [37.0, -18.5]
    assert golden.inputs["word"].values[:2] == ("w" * 37, "")
    assert golden.inputs["whole_number"].values[2] == MISSING_INT
    assert np.isnan(golden.inputs["f2nd_real"].values[3])
    assert set(golden.inputs) == set(NAMES.values())


def test_warm_up_requests(tiny: Tiny, tmp_path: Path) -> None:
    """One row and a batch, for both signatures that servers are asked through; the rows begin again where they end."""
    write_requests(tmp_path, first_records([tiny.validate]), None, RAW_SPEC, NAMES)
    assert not (tmp_path / GOLDEN_FILE).exists()
    found = [log.predict_log.request for log in logs(tmp_path)]
    assert [(one.model_spec.signature_name, len(one.inputs)) for one in found] == [
        ("serving_default", 6),
        ("serving_examples", 1),
    ] * 2
    sizes = [next(iter(one.inputs.values())).tensor_shape.dim[0].size for one in found]
    assert sizes == [1, 1, 64, 64]
    assert tf.make_ndarray(found[3].inputs["examples"]).tolist()[10] == example(37)


def test_the_same_rows_give_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    """So that the digest of a payload follows from what was trained."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_requests(tmp_path / name, first_records([tiny.validate]), PREDICTIONS, RAW_SPEC, NAMES)
    for file in (GOLDEN_FILE, WARM_UP_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_large_rows_make_small_requests(tmp_path: Path) -> None:
    """A megabyte at most, or one row."""
    records = [with_values(1, word=[b"x" * (400 << 10)])] * 3
    write_requests(tmp_path, records, PREDICTIONS, RAW_SPEC, NAMES)
    golden = read_golden(tmp_path)
    assert golden is not None
    assert golden.rows == 2
    sizes = [next(iter(one.predict_log.request.inputs.values())).tensor_shape.dim[0].size for one in logs(tmp_path)]
    assert sizes == [1, 1, 2, 2]


def with_values(index: int, **changed: list[float] | list[bytes] | None) -> bytes:
    made = tf.train.Example.FromString(example(index))
    for name, values in changed.items():
        made.features.feature.pop(name, None)
        if values and isinstance(values[0], bytes):
            made.features.feature[name].bytes_list.value.extend(values)
        elif values is not None:
            made.features.feature[name].float_list.value.extend(values)
    return made.SerializeToString()


def test_rows_that_a_raw_request_cannot_say(tmp_path: Path) -> None:
    """Are left out, and the answers stay with their rows: text that is there and empty, NaN, a required value missing."""
    records = [
        with_values(1, word=[b""]),
        with_values(2, flat=[float("nan")]),
        with_values(3, one=None),
        with_values(4, word=[b"two", b"words"]),
        with_values(5, word=[b"\xff"]),
    ]
    write_requests(tmp_path, records, PREDICTIONS, RAW_SPEC, NAMES)
    golden = read_golden(tmp_path)
    assert golden is not None
    assert golden.predictions == ([float(PREDICTIONS[4, 0])],)
    assert golden.inputs["word"].values == ({"b64": base64.b64encode(b"\xff").decode()},)
    (tmp_path / "none").mkdir()
    write_requests(tmp_path / "none", records[:4], PREDICTIONS, RAW_SPEC, NAMES)
    assert not list((tmp_path / "none").iterdir())
