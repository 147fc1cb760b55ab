"""Rows become tf.Examples: the same values as by tfx_bsl's encoder, those that are missing missing."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen.encode import encode, to_list_columns


def test_lists_hold_one_value_or_are_missing():
    """Values that are there become lists of one; the Arrow types are those that the encoder takes."""
    batch = pa.record_batch(
        {"n": pa.array([1, None, 3], pa.int64()), "t": pa.array([b"a", b"", None], pa.large_binary())}
    )
    lists = to_list_columns(batch.slice(1))
    assert lists.schema.types == [pa.large_list(pa.int64()), pa.large_list(pa.large_binary())]
    assert lists.to_pydict() == {"n": [None, [3]], "t": [[b""], None]}


def test_a_missing_value_is_a_missing_feature():
    """TensorFlow parses it as missing, not as an empty list; an empty text is a value."""
    import tensorflow as tf

    batch = pa.record_batch({"n": pa.array([None, 3], pa.int64()), "t": pa.array([b"", None], pa.large_binary())})
    examples = encode(batch).to_pylist()
    first, second = (tf.train.Example.FromString(data).features.feature for data in examples)
    assert (first["n"].WhichOneof("kind"), first["t"].bytes_list.value[:]) == (None, [b""])
    assert (second["t"].WhichOneof("kind"), second["n"].int64_list.value[:]) == (None, [3])
    parsed = tf.io.parse_example(
        examples, {"n": tf.io.FixedLenFeature([], tf.int64, -1), "t": tf.io.FixedLenFeature([], tf.string, "missing")}
    )
    assert parsed["n"].numpy().tolist() == [-1, 3]
    assert parsed["t"].numpy().tolist() == [b"", b"missing"]


def test_rows_without_any_column_are_empty_examples():
    """A batch of no columns still has its rows."""
    batch = pa.record_batch({"n": pa.array([1, 2])}).select([])
    assert encode(batch).to_pylist() == [b""] * batch.num_rows


_INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300) | st.sampled_from([2**7, 2**14 - 1, 2**63 - 1])
_TEXT = st.binary(max_size=9) | st.integers(120, 140).map(bytes) | st.sampled_from([bytes(16_384)])
_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)  # tfx_bsl cuts names off at a NUL
_KINDS = {"int": (pa.int64(), _INT64), "float": (pa.float32(), st.floats(width=32)), "text": (pa.large_binary(), _TEXT)}


@st.composite
def batches(draw):
    """Rows of any columns, some of them long of name, with values of any number of bytes, some of them missing."""
    rows = draw(st.integers(0, 9))
    columns = {}
    for name in draw(st.lists(_NAME | st.just("n" * 130), max_size=4, unique=True)):
        kind, values = _KINDS[draw(st.sampled_from(sorted(_KINDS)))]
        found = draw(st.lists(st.none() | values, min_size=rows + 2, max_size=rows + 2))
        columns[name] = pa.array(found, kind)
    columns = columns or {"n": pa.array(range(rows + 2), pa.int64())}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)).slice(1, rows)


@given(batches())
def test_the_messages_are_those_of_tfx_bsl(batch):
    """Whatever the values: the parsed messages are equal, but for the order of features and for the bits of a NaN."""
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    theirs = RecordBatchToExamplesEncoder().encode(to_list_columns(batch)) if batch.num_rows else []
    parse = tf.train.Example.FromString
    assert [str(parse(one)) for one in encode(batch).to_pylist()] == [str(parse(one)) for one in theirs]


def test_equal_rows_have_equal_bytes():
    """Wherever in a batch they stand, so that the same data gives the same files."""
    batch = pa.record_batch({name: pa.array([1, 7, 2**40, None] * 3, pa.int64()) for name in "zab"})
    examples = encode(batch).to_pylist()
    assert examples[:4] == examples[4:8] == encode(batch.slice(8)).to_pylist()


def test_a_column_without_any_value_is_missing_in_every_row():
    """Whatever its type: also one that Arrow has none for."""
    import tensorflow as tf

    batch = pa.record_batch({"n": pa.nulls(2), "t": pa.nulls(2, pa.large_binary())})
    for data in encode(batch).to_pylist():
        assert dict(tf.train.Example.FromString(data).features.feature) == {
            "n": tf.train.Feature(),
            "t": tf.train.Feature(),
        }
