"""Golden requests: what is read, what is damaged, and which answers are those that the model gave."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import NotAPayloadError
from serving.golden import GOLDEN_FILE, Column, Golden, difference, read_golden
from serving.messages import from_tensor, to_tensor

OURS = type(to_tensor("float32", [0.0]))

GOLDEN = Golden(
    inputs={
        "word": Column(dtype="string", values=("é", {"b64": "/w=="})),
        "real": Column(dtype="float32", values=(1.5, math.nan)),
    },
    examples=("YQ==", "Yg=="),
    predictions=((0.25,), (0.5,)),
)


def written(folder: Path, text: str) -> Path:
    (folder / GOLDEN_FILE).parent.mkdir(parents=True)
    (folder / GOLDEN_FILE).write_text(text)
    return folder


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Values that are no JSON of their own too: bytes that are no text, and NaN."""
    found = read_golden(written(tmp_path, GOLDEN.model_dump_json()))
    assert found is not None
    assert found.inputs["word"].plain() == ["é".encode(), b"\xff"]
    assert math.isnan(found.inputs["real"].values[1])
    assert (found.records(), found.rows) == ([b"a", b"b"], 2)


def test_a_payload_without_them(tmp_path: Path) -> None:
    """Is no fault."""
    assert read_golden(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"format": 2}', GOLDEN.model_copy(update={"examples": ("YQ==",)}).model_dump_json(),
     Golden(inputs={}, examples=(), predictions=()).model_dump_json()],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    """By its name."""
    with pytest.raises(NotAPayloadError, match="holds"):
        read_golden(written(tmp_path, text))


def test_differences_in_words() -> None:
    """The row that is furthest off, and both numbers; the shape, where that differs."""
    assert difference([[0.25], [0.5]], [[0.25], [0.5003]]) == ""
    wrong = difference([[0.25], [0.5]], [[0.26], [0.7]])
    assert wrong == "0.7 to golden request 2 where the trained model gave 0.5"
    assert difference([[0.25]], [0.25]) == "in the shape [1] and not [1, 1]"
    assert difference([[0.25]], None) == "in the shape [] and not [1, 1]"
    assert difference([[math.nan]], [[0.1]])
    assert difference([[0.1]], [[math.inf]])
    assert not difference([[math.nan], [math.inf]], [[math.nan], [math.inf]])


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_model_agrees_with_itself_over_the_wire(rows: list[list[float]]) -> None:
    """Numbers come back from a tensor as they went in."""
    assert not difference(rows, from_tensor(to_tensor("float32", rows)))


def test_tensors_are_those_of_tensorflow() -> None:
    """Of every type, in either encoding, and with a value that repeats sent once."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    for dtype, values in (
        ("float32", [[1.5, 2.0]]), ("float64", [0.1]), ("int64", [-(2**63), 7]), ("int32", [[1], [2]]),
        ("string", [b"a", b"\xff"]),
    ):  # fmt: skip
        sent = tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_tensor(dtype, values).SerializeToString()))
        assert sent.tolist() == values
        assert sent.dtype.name == dtype if dtype != "string" else sent.dtype == object
        if dtype != "string":
            theirs = OURS.FromString(tf.make_tensor_proto(values, dtype).SerializeToString())
            assert from_tensor(theirs) == values
    repeated = tf.make_tensor_proto(3.0, tf.float32, shape=[2, 2]).SerializeToString()
    assert from_tensor(OURS.FromString(repeated)) == [[3.0, 3.0], [3.0, 3.0]]
    assert from_tensor(to_tensor("string", [b"a"])) is None
