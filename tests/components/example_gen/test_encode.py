"""Rows in are records out: the same values, in the right split, all of them or none."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.example_gen import encode
from components.example_gen.encode import RECORDS_FILE, count_records, to_list_columns, write_splits
from components.example_gen.read import read_batches
from components.example_gen.split import split_of
from schemas.errors import DataError

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}


def records(folder, split):
    return folder / f"Split-{split}" / RECORDS_FILE


@pytest.fixture(scope="session")
def taxi_written(taxi_csv, taxi_columns, tmp_path_factory):
    """The taxi rows, written once."""
    folder = tmp_path_factory.mktemp("examples")
    return folder, write_splits(read_batches(taxi_csv, "csv", taxi_columns), WEIGHTS, folder)


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
    examples = encode.encode(batch)
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
    assert encode.encode(batch) == [b""] * batch.num_rows


def test_all_taxi_rows_come_out(taxi_written):
    """15,002 in, 15,002 out, in about the shares asked for; nothing else lies in the folder."""
    folder, written = taxi_written
    assert written.rows_in == sum(written.rows.values()) == 15_002
    np.testing.assert_allclose(np.array([*written.rows.values()]) / 15_002, [0.7, 0.1, 0.2], atol=0.01)
    assert sorted(path.name for path in folder.iterdir()) == ["Split-eval", "Split-train", "Split-validate", "columns"]
    assert [path.name for path in (folder / "Split-eval").iterdir()] == [RECORDS_FILE]


def test_the_examples_decode_to_the_file_s_values(taxi_written, taxi_csv, taxi_columns, decode):
    """Each value of each row, each missing one missing (5,140 of `company`), in the split of the row's hash."""
    folder, _ = taxi_written
    missing = 0
    for index, split in enumerate(WEIGHTS):
        wanted = {name: [] for name in taxi_columns}
        for batch in read_batches(taxi_csv, "csv", taxi_columns):
            rows = batch.filter(pa.array(split_of(batch, WEIGHTS) == index)).to_pydict()
            wanted = {name: wanted[name] + rows[name] for name in wanted}
        got = decode(records(folder, split), taxi_columns)
        assert got == wanted
        missing += got["company"].count(None)
    assert missing == 5_140


def test_parquet_gives_the_same_examples(taxi_written, taxi_csv, taxi_columns, tmp_path, decode):
    """Rows in reverse, columns sorted by name, small row groups: the same rows are in each split."""
    table = pa.Table.from_batches(list(read_batches(taxi_csv, "csv", taxi_columns)))
    reverse = table.take(pa.array(range(len(table) - 1, -1, -1))).select(sorted(table.schema.names))
    strings = reverse.set_column(
        reverse.schema.get_field_index("company"), "company", reverse["company"].cast(pa.string()).dictionary_encode()
    )
    pq.write_table(strings, tmp_path / "taxi.parquet", row_group_size=1000)
    batches = read_batches(tmp_path / "taxi.parquet", "parquet", taxi_columns)
    folder, written = taxi_written
    assert write_splits(batches, WEIGHTS, tmp_path) == written
    for split in WEIGHTS:
        got = decode(records(tmp_path, split), taxi_columns)
        wanted = decode(records(folder, split), taxi_columns)
        assert {name: values[::-1] for name, values in got.items()} == wanted


def test_an_empty_split_is_refused_by_name(tmp_path):
    """With the number of rows and what to do; nothing is left behind."""
    batch = pa.record_batch({"n": pa.array([5], pa.int64())})
    with pytest.raises(
        DataError, match=r"data\.splits: no row falls into \w+ or \w+: there are 1 rows, .* Add data, or"
    ):
        write_splits([batch], WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lost_record_is_noticed(tmp_path, monkeypatch):
    """The count on disk decides, not what was handed to the writer."""
    monkeypatch.setattr(encode, "count_records", lambda path: 3)
    batch = pa.record_batch({"n": pa.array(range(1000), pa.int64())})
    with pytest.raises(
        DataError, match=r"are not the rows that were read; expected 1000 records; got 9 \(train 3 of 6"
    ):
        write_splits([batch], WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_is_visible(tmp_path):
    """While rows come, and after a fault among them, no split folder is there; leftovers of a killed run go."""
    stale = records(tmp_path, "train")
    stale.parent.mkdir()
    stale.write_bytes(b"stale")

    def rows():
        for _ in range(3):
            yield pa.record_batch({"n": pa.array(range(100), pa.int64())})
            assert not list(tmp_path.glob("Split-*"))
        raise DataError("rows.csv", "is bad")

    with pytest.raises(DataError, match=r"rows\.csv: is bad"):
        write_splits(rows(), WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_with_different_columns_can_be_written_together(tmp_path, decode):
    """A batch that lacks a column gives examples that lack the feature."""
    wide = pa.record_batch({"n": pa.array(range(50), pa.int64()), "t": pa.array([b"x"] * 50, pa.large_binary())})
    written = write_splits([wide, wide.select(["n"])], WEIGHTS, tmp_path)
    texts = [t for split in WEIGHTS for t in decode(records(tmp_path, split), ["n", "t"])["t"]]
    assert written.rows_in == 100
    assert (texts.count(b"x"), texts.count(None)) == (50, 50)


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
