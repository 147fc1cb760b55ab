"""Rows in are records out: the same values, in the right split, all of them or none."""

import numpy as np
import pyarrow as pa
import pytest

from components.example_gen import shards
from components.example_gen.read import read_batches
from components.example_gen.split import split_of
from schemas.errors import DataError
from tests.components.examples import RECORDS_FILE, write_splits

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}


def records(folder, split):
    return folder / f"Split-{split}" / RECORDS_FILE


@pytest.fixture(scope="session")
def taxi_written(taxi_csv, taxi_columns, tmp_path_factory):
    """The taxi rows, written once."""
    folder = tmp_path_factory.mktemp("examples")
    return folder, write_splits(read_batches(taxi_csv, "csv", taxi_columns), WEIGHTS, folder)


def test_all_taxi_rows_come_out(taxi_written):
    """15,002 in, 15,002 out, in about the shares asked for; nothing else lies in the folder."""
    folder, written = taxi_written
    assert written.rows_in == sum(written.rows.values()) == 15_002
    np.testing.assert_allclose(np.array([*written.rows.values()]) / 15_002, [0.7, 0.1, 0.2], atol=0.01)
    assert sorted(path.name for path in folder.iterdir()) == [
        "Split-eval",
        "Split-train",
        "Split-validate",
        "columns",
        "shards.json",
    ]
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
    monkeypatch.setattr(shards, "count_records", lambda path: 3)
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
