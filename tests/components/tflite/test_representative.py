"""Rows are drawn from the whole of a split, each as likely as any other."""

import numpy as np
import pytest
import tensorflow as tf

from components.tflite.representative import raw_features_of, sample


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """10,000 records in a plain and a gzipped file."""
    folder = tmp_path_factory.mktemp("rows")
    for name, numbers in (("part-0", range(9000)), ("part-1.gz", range(9000, 10_000))):
        with tf.io.TFRecordWriter(str(folder / name), "GZIP" if name.endswith(".gz") else "") as writer:
            for number in numbers:
                writer.write(str(number).encode())
    return list(folder.iterdir())


def test_as_many_as_are_asked_for_and_each_once(files):
    """Some of all, or all where there are no more."""
    drawn = sample(files, 500)
    assert len(drawn) == len(set(drawn)) == 500
    assert len(sample(files, 20_000)) == 10_000


def test_they_come_from_everywhere(files):
    """Not from the beginning, where a file that is sorted by time holds one season."""
    numbers = np.array([int(row) for row in sample(files, 500)])
    counts = np.histogram(numbers, bins=10, range=(0, 10_000))[0]
    assert counts.min() > 20


def test_the_same_seed_draws_the_same(files):
    """So that the same model converts to the same bytes."""
    assert sample(files, 50).tolist() == sample(reversed(files), 50).tolist()
    assert sample(files, 50, seed=1).tolist() != sample(files, 50).tolist()


def test_no_files():
    """No rows; the converter tells what that means."""
    assert len(sample([])) == 0


def example(**values):
    features = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        if isinstance(value, float)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_raw_features_stand_as_a_request_gives_them():
    """By the names of the arguments, and what is missing says so; columns that are not asked for are left out."""
    spec = {
        "mean radius": tf.io.FixedLenFeature([1], tf.float32),
        "fare": tf.io.VarLenFeature(tf.float32),
        "area": tf.io.VarLenFeature(tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    rows = np.array(
        [example(**{"mean radius": 1.5}, fare=2.0, label=1), example(**{"mean radius": 2.5}, label=0)], object
    )
    found = raw_features_of(["mean_radius", "fare", "area"], spec, rows)
    assert found.keys() == {"mean_radius", "fare", "area"}
    assert found["mean_radius"].tolist() == [1.5, 2.5]
    np.testing.assert_array_equal(found["fare"], np.array([2.0, np.nan], np.float32))
    assert found["area"].tolist() == [-(2**63)] * 2
    assert [len(batch) for batch in raw_features_of(["fare"], spec, rows[:0]).values()] == [0]
