"""Real rows as requests and as tf.Examples, from the columns of an artifact or from its Examples alone."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.profiler.rows import Rows, read_rows
from tests.components.first_run import FirstRun

# TFX and what it imports warn of much that is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def examples(first_run: FirstRun) -> Path:
    return first_run.uris["ExampleGen", "examples"]


def same(one: Rows, other: Rows) -> None:
    assert list(one.examples) == list(other.examples)
    assert one.values.keys() == other.values.keys()
    for name in one.values:
        np.testing.assert_array_equal(one.present[name], other.present[name], name)
        there = one.present[name]
        np.testing.assert_array_equal(one.values[name][there], other.values[name][there], name)


def test_rows_are_those_of_the_records(examples: Path) -> None:
    """In their order, each value where TensorFlow's own reader finds it, and none where it finds none."""
    rows = read_rows(examples, "eval", 100)
    records = list(tf.data.TFRecordDataset(str(next((examples / "Split-eval").iterdir()))).as_numpy_iterator())[:100]
    assert list(rows.examples) == records
    for index in (0, 7, 99):
        features = tf.train.Example.FromString(records[index]).features.feature
        for name, column in rows.values.items():
            kind = features[name].WhichOneof("kind") if name in features else None
            found = list(getattr(features[name], kind).value) if kind else []
            assert bool(found) == rows.present[name][index], name
            if found:
                assert column[index] == found[0], name
    assert {column.dtype.kind for column in rows.values.values()} == {"i", "f", "S"}
    assert not rows.present["company"].all()


def test_examples_alone_give_the_same_rows(examples: Path, tmp_path: Path) -> None:
    """An artifact without columns, compressed."""
    folder = tmp_path / "examples"
    (folder / "Split-eval").mkdir(parents=True)
    (source,) = (examples / "Split-eval").iterdir()
    with gzip.open(folder / "Split-eval" / f"{source.name}.gz", "wb") as packed:
        packed.write(source.read_bytes())
    same(read_rows(folder, "eval", 50), read_rows(examples, "eval", 50))


def test_no_more_than_there_are(examples: Path, tmp_path: Path) -> None:
    """And none of a split that is empty."""
    count = read_rows(examples, "validate", 10**6).count
    assert 100 < count < 400
    folder = tmp_path / "examples"
    shutil.copytree(examples, folder)
    for file in (folder / "Split-eval").iterdir():
        file.write_bytes(b"")
    for file in (folder / "columns").glob("eval-*"):
        file.unlink()
    assert read_rows(folder, "eval", 10).count == 0


def test_rows_travel_to_another_process(examples: Path, tmp_path: Path) -> None:
    """As they are."""
    rows = read_rows(examples, "eval", 20)
    rows.save(tmp_path / "rows.npz")
    same(Rows.load(tmp_path / "rows.npz"), rows)
    nothing = Rows({}, {}, ())
    nothing.save(tmp_path / "nothing.npz")
    assert Rows.load(tmp_path / "nothing.npz").count == 0
