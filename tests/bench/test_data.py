"""Drawn trips: always the same, in however many files, and still trips."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from bench import data
from components.example_gen.columns import columns_of
from components.example_gen.read import infer_columns, read_batches
from tests.workbench import REPOSITORY

pytestmark = pytest.mark.skipif(not data.REAL.is_file(), reason="make data")


def written(folder, rows, shards=1, seed=0):
    """The table that was written, read back from all files in order."""
    folder.mkdir()
    files = data.write(data.REAL, rows, folder, shards, seed)
    assert sorted(folder.iterdir()) == files
    assert len(files) == shards
    tables = [pa.csv.read_csv(file) for file in files]
    assert max(map(len, tables)) - min(map(len, tables)) <= 1
    return pa.concat_tables(tables, promote_options="permissive")


def test_rows_follow_from_the_seed_alone(tmp_path, monkeypatch):
    """Equal seeds give equal rows, in one file or in several, over the borders of blocks; another seed gives others."""
    monkeypatch.setattr(data, "BLOCK_ROWS", 300)
    once = written(tmp_path / "once", 1000)
    assert len(once) == 1000
    assert written(tmp_path / "again", 1000).equals(once)
    assert written(tmp_path / "shards", 1000, shards=7).equals(once)
    assert not written(tmp_path / "other", 1000, seed=1).equals(once)


def test_fewer_rows_are_the_first_of_more(tmp_path, monkeypatch):
    """Whole blocks do not depend on how many rows follow."""
    monkeypatch.setattr(data, "BLOCK_ROWS", 300)
    more = written(tmp_path / "more", 900)
    assert written(tmp_path / "fewer", 600).equals(more.slice(0, 600))


def test_drawn_trips_are_trips(tmp_path):
    """They meet the curated schema's types, keep what is missing, and hour, day and month are those of the time."""
    found = written(tmp_path / "drawn", 20_000)
    real = pa.csv.read_csv(data.REAL)
    assert found.schema.equals(real.schema)
    with data.REAL.open() as theirs, (tmp_path / "drawn" / "data-00000-of-00001.csv").open() as ours:
        assert next(ours) == next(theirs)
        assert '"' not in ours.read()
    file = tmp_path / "drawn" / "data-00000-of-00001.csv"
    columns = columns_of((REPOSITORY / "schemas" / "taxi" / "schema.pbtxt").read_text())
    batches = read_batches(file, "csv", columns, infer_columns([file], "csv", columns))
    assert sum(batch.num_rows for batch in batches) == 20_000
    for name in ("dropoff_latitude", "dropoff_census_tract"):
        assert found[name].null_count / 20_000 == pytest.approx(real[name].null_count / len(real), abs=0.02)
    empty = [pc.sum(pc.equal(table["company"], "")).as_py() / len(table) for table in (found, real)]
    assert empty[0] == pytest.approx(empty[1], abs=0.02)
    time = found["trip_start_timestamp"].cast(pa.timestamp("s"))
    assert pc.all(pc.equal(pc.month(time), found["trip_start_month"])).as_py()
    assert pc.all(pc.equal(pc.hour(time), found["trip_start_hour"])).as_py()
    week = pc.day_of_week(time, count_from_zero=False, week_start=7)
    assert pc.all(pc.equal(week, found["trip_start_day"])).as_py()


def test_tips_keep_their_share_of_the_fare():
    """Fare and tip are scaled together, so that there is as much to learn as in the real trips."""
    real = pa.csv.read_csv(data.REAL)
    drawn = pa.concat_tables(data.drawn(real, 20_000, 0))
    shares = [
        pc.mean(pc.greater(pc.multiply(table["tips"], 5.0), table["fare"]).cast("int8")).as_py()
        for table in (real, drawn)
    ]
    assert shares[1] == pytest.approx(shares[0], abs=0.02)
    assert drawn["fare"].combine_chunks().unique().to_pylist() != real["fare"].combine_chunks().unique().to_pylist()
