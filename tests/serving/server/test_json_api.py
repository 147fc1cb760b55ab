"""JSON of the REST interface: values of every type, shapes, and the words of each refusal."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2

from serving.server import json_api
from serving.server.json_api import fill_examples, read_predict, write_outputs
from serving.server.status import Refusal


def infos(**dtypes):
    return {name: meta_graph_pb2.TensorInfo(dtype=dtype) for name, dtype in dtypes.items()}


def read(document, form="row", **dtypes):
    """The inputs of a request as arrays."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    found = read_predict(body, lambda signature: infos(**dtypes))
    assert found.form == form
    return found.inputs


def refusal(document, **dtypes):
    with pytest.raises(Refusal) as caught:
        read(document, **dtypes)
    return caught.value


@pytest.mark.parametrize(
    ("dtype", "values", "kind"),
    [
        (types_pb2.DT_FLOAT, [1, 2.5, math.inf], np.float32),
        (types_pb2.DT_DOUBLE, [1, 2.5], np.float64),
        (types_pb2.DT_INT32, [-(1 << 31), (1 << 31) - 1], np.int32),
        (types_pb2.DT_INT64, [-(1 << 63), (1 << 63) - 1], np.int64),
        (types_pb2.DT_UINT8, [0, 255], np.uint8),
        (types_pb2.DT_UINT32, [0, (1 << 32) - 1], np.uint32),
        (types_pb2.DT_UINT64, [0, (1 << 64) - 1], np.uint64),
        (types_pb2.DT_BOOL, [True, False], np.bool_),
    ],
)
def test_values_of_each_type(dtype, values, kind):
    """By rows and by columns."""
    for document, form in (({"instances": values}, "row"), ({"inputs": values}, "column")):
        array = read(document, form, x=dtype)["x"]
        assert (array.dtype, array.tolist()) == (np.dtype(kind), values)


def test_strings_and_base64():
    """Text is UTF-8; base64 may lack its padding and hold blanks."""
    given_ = ["ä", {"b64": base64.b64encode(b"\xff\x00").decode()}, {"b64": "/w"}, {"b64": "\n/w = ="}]
    assert read({"instances": given_}, x=types_pb2.DT_STRING)["x"].tolist() == [
        "ä".encode(),
        b"\xff\x00",
        b"\xff",
        b"\xff",
    ]


def test_shapes():
    """Nested lists, empty ones too."""
    assert read({"instances": [[[1, 2]], [[3, 4]]]}, x=types_pb2.DT_FLOAT)["x"].shape == (2, 1, 2)
    assert read({"instances": [[], []]}, x=types_pb2.DT_FLOAT)["x"].shape == (2, 0)
    assert read({"inputs": 3}, "column", x=types_pb2.DT_FLOAT)["x"].shape == ()


@pytest.mark.parametrize(
    ("document", "dtype", "words"),
    [
        ({"instances": [True]}, types_pb2.DT_FLOAT, "Type: True is not of expected type: float"),
        ({"instances": [1.5]}, types_pb2.DT_INT64, "Type: Number is not of expected type: int64"),
        ({"instances": [1 << 63]}, types_pb2.DT_INT64, "is not of expected type: int64"),
        ({"instances": [-1]}, types_pb2.DT_UINT32, "is not of expected type: uint32"),
        ({"instances": [None]}, types_pb2.DT_FLOAT, "Type: Null is not"),
        ({"instances": [1]}, types_pb2.DT_STRING, "Type: Number is not of expected type: string"),
        ({"instances": [{"b64": "a"}]}, types_pb2.DT_STRING, "Unable to base64 decode"),
        ({"instances": [{"b64": "!!!!"}]}, types_pb2.DT_STRING, "Unable to base64 decode"),
        ({"inputs": [{"x": 1}]}, types_pb2.DT_STRING, "not formatted correctly for base64 data"),
        ({"instances": [1, [1]]}, types_pb2.DT_FLOAT, "Failed to process element: 1 of 'instances' list"),
        ({"instances": [[1, 2], [1]]}, types_pb2.DT_FLOAT, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[1, 2], [[1], [2]]]}, types_pb2.DT_FLOAT, "Expecting shape [2] but got: [2,1]"),
        ({"instances": [[1, [2]]]}, types_pb2.DT_FLOAT, "Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[[1], 2]]}, types_pb2.DT_FLOAT, "found at incorrect level: 2 in the JSON DOM"),
        ({"instances": [[[1], [1, 2]]]}, types_pb2.DT_FLOAT, "unexpected size: 2 at level: 1 expected size: 1"),
        ({"instances": [1, {"x": 1}]}, types_pb2.DT_FLOAT, "Expecting value/list but got object at item 1"),
        ({"instances": [{"x": 1}, 1]}, types_pb2.DT_FLOAT, "Expecting object but got list at item 1"),
        ({"instances": [{}]}, types_pb2.DT_FLOAT, "keys must be equal to: x"),
        ({"instances": [10**400]}, types_pb2.DT_FLOAT, "out of range for type: float"),
        ({"instances": [1]}, types_pb2.DT_COMPLEX64, "to type: complex64"),
        (b"[" * 100_000, types_pb2.DT_FLOAT, "JSON Parse error: nested too deeply"),
        (b'{"inputs":' + b"[" * 70 + b"1" + b"]" * 70 + b"}", types_pb2.DT_FLOAT, "Encountered a list of 70 levels"),
        (b'{"inputs": 1' + b"1" * 5000 + b"}", types_pb2.DT_FLOAT, "JSON Parse error"),
        (b"\xff\xfe", types_pb2.DT_FLOAT, "JSON Parse error"),
    ],
)
def test_refusals(document, dtype, words):
    """In TF Serving's words."""
    found = refusal(document, x=dtype)
    assert words in found.message
    assert len(found.message) <= 2000
    assert found.code in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


def test_what_is_shown_is_bounded():
    """However large the document."""
    assert len(refusal({"instances": "a" * 100_000}, x=types_pb2.DT_FLOAT).message) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just({"b64": "YQ=="}),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "b64", "z"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]), JSON, max_size=3
    ),
    st.sampled_from(
        [types_pb2.DT_FLOAT, types_pb2.DT_INT8, types_pb2.DT_STRING, types_pb2.DT_BOOL, types_pb2.DT_UINT64]
    ),
)
def test_any_json_is_read_or_refused(document, dtype):
    """With `Refusal` and nothing else."""
    body = json.dumps(document).encode()
    for fill in (
        lambda: read_predict(body, lambda _: infos(x=dtype)),
        lambda: read_predict(body, lambda _: infos(x=dtype, y=dtype)),
        lambda: fill_examples(body, classification_pb2.ClassificationRequest()),
    ):
        with contextlib.suppress(Refusal):
            fill()


LEAVES = st.integers(-300, 300) | st.integers() | st.floats() | st.text(max_size=3) | st.booleans()
ROWS = st.integers(1, 3).flatmap(
    lambda width: st.one_of(
        *(
            st.lists(row, min_size=1, max_size=4)
            for leaf in (LEAVES, st.integers(-300, 300), st.floats(), st.text(max_size=3))
            for row in (
                leaf,
                st.lists(leaf, min_size=width, max_size=width),
                st.fixed_dictionaries({"x": leaf}, optional={"y": leaf}),
                st.fixed_dictionaries({"x": st.lists(leaf, min_size=width, max_size=width), "y": leaf}),
            )
        )
    )
)


@given(
    ROWS,
    st.sampled_from([types_pb2.DT_FLOAT, types_pb2.DT_INT8, types_pb2.DT_INT64, types_pb2.DT_STRING]),
    st.sampled_from([["x"], ["x", "y"], ["b64"]]),
)
def test_even_rows_are_read_as_all_others(rows, dtype, names):
    """The quick way through rows that look the same gives what the way through each value gives, refusals too."""

    def outcome():
        try:
            return read({"instances": rows}, **dict.fromkeys(names, dtype))
        except Refusal as refusal:
            return str(refusal)

    quick = outcome()
    with patch.object(json_api, "_even_rows", return_value=None):
        slow = outcome()
    np.testing.assert_equal(quick, slow)
    if not isinstance(quick, str):
        assert [(a.dtype, a.shape) for a in quick.values()] == [(a.dtype, a.shape) for a in slow.values()]


@pytest.mark.parametrize("rows", [[1.5, 2], [[1, 2], [3, 4]], [{"x": 1}, {"x": 2}], [{"x": [1, 2]}]])
def test_even_rows_are_taken_for_such(rows):
    """So that the property above compares two ways."""
    assert json_api._even_rows(rows, infos(x=types_pb2.DT_FLOAT)) is not None


def test_base64_where_objects_are_expected():
    """Is no object."""
    found = refusal({"instances": [{"b64": "YQ=="}]}, x=types_pb2.DT_STRING, y=types_pb2.DT_STRING)
    assert "instances is a plain list" in found.message


@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_are_written_so_that_they_read_back(values):
    """And no longer than that."""
    array = np.array(values, np.float32)
    answer = json.loads(write_outputs({"y": array}, "row"))
    np.testing.assert_array_equal(np.array(answer["predictions"], np.float32), array)
    assert write_outputs({"y": np.array([0.2], np.float32)}, "row") == b'{"predictions": [0.2]}'


def test_outputs_that_are_no_rows():
    """Rows need one first dimension; columns do not."""
    outputs = {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
    with pytest.raises(Refusal, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        write_outputs(outputs, "row")
    assert json.loads(write_outputs(outputs, "column"))["outputs"]["b"] == [0, 0, 0]
    with pytest.raises(Refusal, match="has no shape information"):
        write_outputs({"a": np.array(1.0)}, "row")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_nesting_follows_the_shape(shape):
    """Also where a dimension is zero."""
    values = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    answer = json.loads(write_outputs({"y": values}, "column"))
    assert answer["outputs"] == values.tolist()


def test_examples():
    """A feature's kind follows from its values, which must agree."""
    request = classification_pb2.ClassificationRequest()
    examples = [{"i": 1, "f": [1.5, 2.5], "s": ["a", {"b64": "/w=="}], "t": True}]
    fill_examples(json.dumps({"examples": examples}).encode(), request)
    features = request.input.example_list.examples[0].features.feature
    assert list(features["i"].int64_list.value) == [1]
    assert list(features["f"].float_list.value) == [1.5, 2.5]
    assert list(features["s"].bytes_list.value) == [b"a", b"\xff"]
    assert list(features["t"].int64_list.value) == [1]
    for value, words in (
        ([1, "a"], "Unexpected element type in feature: x expecting type: int64"),
        (1 << 63, "has uint64_t element"),
        (None, "unexpected JSON type: Null"),
    ):
        with pytest.raises(Refusal, match=words):
            fill_examples(json.dumps({"examples": [{"x": value}]}).encode(), request)
