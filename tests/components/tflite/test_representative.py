"""Rows are drawn from the whole of a split, each as likely as any other."""

import numpy as np
import pytest
import tensorflow as tf

from components.tflite.representative import sample


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
