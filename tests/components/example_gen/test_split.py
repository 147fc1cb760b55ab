"""A row's split follows from its own values, and from nothing else."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen.split import row_hashes, split_of

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}

_NUMBERS = st.none() | st.floats(width=32) | st.integers(-(2**53), 2**53).map(float)
_TEXTS = st.none() | st.text(max_size=8)


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Batches of up to 20 rows with an integer, a float and a text column, nulls among the values."""
    rows = draw(st.integers(1, 20))
    integers = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows)
    return pa.record_batch(
        {
            "n": pa.array(draw(integers), pa.int64()),
            "x": pa.array(draw(st.lists(_NUMBERS, min_size=rows, max_size=rows)), pa.float64()),
            "t": pa.array(draw(st.lists(_TEXTS, min_size=rows, max_size=rows)), pa.large_string()),
        }
    )


@given(batches(), st.randoms())
def test_order_of_rows_and_columns_does_not_matter(batch, random):
    """Shuffled rows carry their split with them; shuffled columns change nothing."""
    rows = random.sample(range(batch.num_rows), batch.num_rows)
    names = random.sample(batch.schema.names, batch.num_columns)
    shuffled = batch.take(pa.array(rows)).select(names)
    np.testing.assert_array_equal(split_of(shuffled, WEIGHTS), split_of(batch, WEIGHTS)[rows])


@given(batches(), st.data())
def test_blocks_do_not_matter(batch, data):
    """A batch cut in two gives the same answer as the whole."""
    cut = data.draw(st.integers(0, batch.num_rows))
    parts = [split_of(part, WEIGHTS) for part in (batch.slice(0, cut), batch.slice(cut))]
    np.testing.assert_array_equal(np.concatenate(parts), split_of(batch, WEIGHTS))


@given(batches())
def test_a_column_without_values_changes_nothing(batch):
    """An always-empty column, of whatever type, does not move a row."""
    for kind in (pa.null(), pa.int64(), pa.float32(), pa.large_binary()):
        wider = batch.append_column("new", pa.nulls(batch.num_rows, kind))
        np.testing.assert_array_equal(row_hashes(wider), row_hashes(batch))


@given(st.lists(st.none() | st.integers(-(2**24), 2**24), min_size=1))
def test_a_number_counts_by_its_value(values):
    """1 and 1.0 are equal, in whatever width they are stored."""
    expected = row_hashes(pa.record_batch({"a": pa.array(values, pa.int64())}))
    for kind in (pa.int32(), pa.float32(), pa.float64()):
        np.testing.assert_array_equal(row_hashes(pa.record_batch({"a": pa.array(values, kind)})), expected)


@given(st.lists(_TEXTS, min_size=1))
def test_text_counts_by_its_bytes(values):
    """Text, bytes and dictionary-encoded text are equal."""
    plain = pa.array(values, pa.string())
    expected = row_hashes(pa.record_batch({"a": plain}))
    for column in (plain.cast(pa.large_binary()), plain.cast(pa.binary()), plain.dictionary_encode()):
        np.testing.assert_array_equal(row_hashes(pa.record_batch({"a": column})), expected)


def test_zero_has_no_sign_and_nan_is_one_value():
    """-0.0 is 0.0; every bit pattern of NaN is the same; a missing value is neither."""
    odd_nan = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    hashes = row_hashes(pa.record_batch({"a": pa.array([0.0, -0.0, *odd_nan, None], pa.float64(), from_pandas=False)}))
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3]
    assert len({int(h) for h in hashes}) == 3


def test_values_columns_and_types_are_told_apart():
    """The same value in another column, a number as text, an empty text and a missing one are all different rows."""
    rows = pa.record_batch(
        {
            "a": pa.array([1, None, None, None, None, None], pa.int64()),
            "b": pa.array([None, 1, None, None, None, None], pa.int64()),
            "c": pa.array([None, None, "1", "", None, None], pa.string()),
            "d": pa.array([None, None, None, None, "1", None], pa.string()),
            "e": pa.array([None, None, None, None, None, True], pa.bool_()),
        }
    )
    assert len(set(row_hashes(rows).tolist())) == 6


def test_a_few_hashes_are_pinned():
    """A change of the hash would move rows between splits from one run to the next: it must be meant."""
    batch = pa.record_batch({"fare": pa.array([12.45, None], pa.float32()), "company": ["Chicago Elite", None]})
    assert row_hashes(batch).tolist() == [921069271450792561, 0]


def test_another_process_gives_the_same_hashes():
    """No salt of the process (PYTHONHASHSEED) enters."""
    code = (
        "import pyarrow as pa; from components.example_gen.split import row_hashes;"
        "print(row_hashes(pa.record_batch({'a': ['x', 'ü'], 'b': [1, 2]})).tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(row_hashes(pa.record_batch({"a": ["x", "ü"], "b": [1, 2]})).tolist())


def test_splits_have_the_shares_of_their_weights():
    """Of 100,000 different rows, each split gets its share within half a per cent."""
    indexes = split_of(pa.record_batch({"a": np.arange(100_000)}), WEIGHTS)
    np.testing.assert_allclose(np.bincount(indexes) / 100_000, [0.7, 0.1, 0.2], atol=0.005)


def test_a_growing_weight_takes_buckets_in_order():
    """Buckets are contiguous: with the same sum, a row whose bucket lies in both ranges stays."""
    batch = pa.record_batch({"a": np.arange(1000)})
    seven, eight = split_of(batch, {"train": 7, "eval": 3}), split_of(batch, {"train": 8, "eval": 2})
    assert set(seven[eight == 1]) == {1}
    assert set(eight[seven == 0]) == {0}


@pytest.mark.parametrize("weights", [{}, {"train": 0, "eval": 1}, {"train": -1}])
def test_weights_are_positive(weights):
    """A split without a share is refused."""
    with pytest.raises(ValueError, match="positive whole numbers"):
        split_of(pa.record_batch({"a": [1]}), weights)
