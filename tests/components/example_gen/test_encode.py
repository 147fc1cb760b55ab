"""Rows become tf.Examples: the same values, those that are missing missing; and records are counted."""

import os

import pyarrow as pa
import pytest

from components.example_gen.encode import count_records, encode, to_list_columns
from schemas.errors import DataError


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
    examples = encode(batch)
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
    assert encode(batch) == [b""] * batch.num_rows


def test_records_are_counted_by_their_framing(tmp_path):
    """As many as were written, with records larger than the buffer; an empty file has none."""
    import tensorflow as tf

    sizes = [0, 1, 5, 3 << 20, 7]
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for size in sizes:
            writer.write(bytes(size))
    assert count_records(tmp_path / "records") == len(sizes)
    (tmp_path / "empty").touch()
    assert count_records(tmp_path / "empty") == 0


@pytest.mark.parametrize("cut", [1, 4, 8, 15])
def test_a_file_that_ends_within_a_record_is_refused(tmp_path, cut):
    """Wherever it was cut."""
    import tensorflow as tf

    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"first")
        writer.write(b"")
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(DataError, match="ends within the record at byte 21"):
        count_records(path)
