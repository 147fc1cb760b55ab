"""Files of records: TensorFlow reads back what was written, and they are counted by their framing."""

import hashlib
import os

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen import records
from components.example_gen.records import RecordFile, count_records, framed
from schemas.errors import DataError


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=4), st.integers(0, 2))
def test_tensorflow_reads_what_was_written(tmp_path_factory, batches, skipped):
    """Lengths and checksums are right, in whatever batches the records came, and of slices as well."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("records") / "folder" / "records"
    with RecordFile(path) as file:
        for batch in batches:
            file.write(framed(pa.array(batch, pa.large_binary()).slice(skipped)))
    wanted = [record for batch in batches for record in batch[skipped:]]
    assert list(tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()) == wanted
    assert count_records(path) == len(wanted)
    assert file.digest() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_has_lost_bytes_has_no_digest(tmp_path):
    """What was hashed is not what lies there."""
    with RecordFile(tmp_path / "records") as file:
        file.write(framed(pa.array([b"one"], pa.large_binary())))
    os.truncate(file.path, 5)
    with pytest.raises(DataError, match="is not as long as what was written into it; expected 19 bytes; got 5"):
        file.digest()


def test_records_are_counted_by_their_framing(tmp_path, monkeypatch):
    """As many as were written, with records larger than what is read at once; an empty file has none."""
    import tensorflow as tf

    sizes = [0, 1, 5, 3 << 20, 7, *[40] * 30]
    monkeypatch.setattr(records, "_BLOCK_BYTES", 64)
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
