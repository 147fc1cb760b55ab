"""Rows counted against a baseline give the distances that all their values would."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_gate.counts import count_rows
from components.data_gate.distance import Numbers, Texts, bucket_edges, distance


def exact(values, kind="FLOAT"):
    """Every value is an edge."""
    edges, counts = np.unique(np.array(values, np.float64), return_counts=True)
    return Numbers(len(values), edges, np.cumsum(counts) / len(values), kind)


def batches(name, values, type):
    half = len(values) // 2
    return [pa.record_batch({name: pa.array(part, type)}) for part in (values[:half], values[half:])]


SOME = st.lists(st.integers(-20, 20), min_size=1, max_size=60)


@given(SOME, SOME)
def test_numbers(now, then):
    """In the baseline's buckets nothing is lost, whatever lies outside of them."""
    baseline = exact(then)
    rows, found = count_rows(batches("x", [*now, None], pa.int64()), {"x": "INT"}, {"x": baseline})
    assert rows == len(now) + 1
    assert found["x"].count == len(now)
    assert found["x"].type == "INT"
    p, q = shares(now, baseline), shares(then, baseline)
    assert distance("jensen_shannon", found["x"], baseline) == pytest.approx(divergence(p, q), abs=1e-12)


def shares(values, baseline):
    """Of the values, one by one, in the baseline's buckets."""
    edges = [-np.inf, *bucket_edges(baseline), np.inf]
    return np.array([np.mean([low < one <= high for one in values]) for low, high in pairwise(edges)])


def divergence(p, q):
    """Jensen and Shannon's, to the base 2."""
    middle = (p + q) / 2
    parts = [sum(x * np.log2(x / m) for x, m in zip(one, middle, strict=True) if x) for one in (p, q)]
    return sum(parts) / 2


def test_texts():
    """Each text is counted, missing ones are not."""
    baseline = Texts(2, {"a": 1.0, "b": 1.0})
    values = [b"a", b"a", None, b"c", b"\xff"]
    rows, found = count_rows(batches("x", values, pa.large_binary()), {"x": "BYTES"}, {"x": baseline})
    assert rows == 5
    assert found["x"] == Texts(4, {"a": 2.0, "c": 1.0, "�": 1.0})


@pytest.mark.parametrize(("kind", "type"), [("BYTES", pa.large_binary()), ("FLOAT", pa.float32())])
def test_nothing_there(kind, type):
    """A column without values has none; NaN is none either."""
    values = [None, None] if kind == "BYTES" else [None, float("nan")]
    _, found = count_rows(batches("x", values, type), {"x": kind}, {"x": None})
    assert found == {"x": None}


def test_rows_alone():
    """Without a baseline no column is looked at."""
    assert count_rows(batches("x", [1, 2, 3], pa.int64()), {"x": "INT"}, {}) == (3, {})
