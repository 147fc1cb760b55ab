"""Tensors on the wire: both encodings, every type, and what is refused."""

from __future__ import annotations

import time

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.status import Refusal
from serving.server.tensors import MAX_FILLED, decode, encode

NUMBERS = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.sampled_from(NUMBERS).flatmap(lambda kind: npst.arrays(kind, SHAPES)))
def test_numbers_round_trip(values):
    """As TensorFlow writes them, as we do, and back."""
    for proto in (tf.make_tensor_proto(values), encode(values)):
        back = decode("x", proto)
        assert (back.dtype, back.shape) == (values.dtype, values.shape)
        np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(tf.make_ndarray(encode(values)), values)


@given(npst.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_strings_round_trip(values):
    """Any bytes."""
    back = decode("x", encode(values, dtype=types_pb2.DT_STRING))
    assert back.shape == values.shape
    assert back.reshape(-1).tolist() == values.reshape(-1).tolist()


def test_other_types_go_through_tensorflow():
    """Half precision and complex numbers."""
    for kind in (np.float16, np.complex64):
        values = np.array([1, 2.5], kind)
        np.testing.assert_array_equal(decode("x", encode(values)), values)


def test_the_last_value_stands_for_all_that_follow():
    """And zero where there is none, as TensorFlow reads it."""
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT64, int64_val=[1, 2])
    proto.tensor_shape.dim.add(size=4)
    assert decode("x", proto).tolist() == [1, 2, 2, 2]
    proto.ClearField("int64_val")
    assert decode("x", proto).tolist() == [0, 0, 0, 0]


def proto_of(dtype, sizes, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        proto_of(types_pb2.DT_FLOAT, [2], tensor_content=b"123"),
        proto_of(types_pb2.DT_FLOAT, [3], tensor_content=bytes(8)),
        proto_of(types_pb2.DT_FLOAT, [1], float_val=[1, 2]),
        proto_of(types_pb2.DT_FLOAT, [-1], float_val=[1]),
        proto_of(types_pb2.DT_STRING, [1], tensor_content=b"1"),
        proto_of(types_pb2.DT_INVALID, [1]),
        proto_of(9999, [1]),
        proto_of(types_pb2.DT_RESOURCE, [1]),
        proto_of(types_pb2.DT_VARIANT, []),
        proto_of(types_pb2.DT_HALF, [3], tensor_content=bytes(4)),
        proto_of(types_pb2.DT_INT8, [1], int_val=[300]),
        proto_of(types_pb2.DT_FLOAT, [1] * 65, float_val=[1]),
        proto_of(types_pb2.DT_FLOAT, [(1 << 63) - 1, 0, (1 << 63) - 1]),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
    ],
    ids=lambda proto: str(proto).replace("\n", " ")[:50],
)
def test_contradictions_are_refused(proto):
    """Each by the name of the input."""
    with pytest.raises(Refusal, match="tensor parsing error: x") as caught:
        decode("x", proto)
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("dtype", [types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_HALF, types_pb2.DT_COMPLEX64])
@pytest.mark.parametrize("sizes", [[MAX_FILLED + 1], [1 << 40], [(1 << 63) - 1] * 3])
def test_a_few_bytes_claim_no_memory(dtype, sizes):
    """A declared shape alone allocates nothing."""
    with pytest.raises(Refusal, match="may be left out") as caught:
        decode("x", proto_of(dtype, sizes))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_million_dimensions_cost_no_time():
    """Their product is never formed."""
    proto = proto_of(types_pb2.DT_FLOAT, [(1 << 63) - 1] * 100_000)
    started = time.process_time()
    with pytest.raises(Refusal):
        decode("x", proto)
    assert time.process_time() - started < 1
