"""Examples as tensors."""

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.transform.operations import UnsupportedError
from components.transform.records import Parser, batches, program
from tests.components.transform.workbench import SCHEMA, SPLITS


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


def test_other_formats_are_refused():
    """Sequence examples, and files of another kind."""
    with pytest.raises(UnsupportedError, match="the examples have the format FORMAT_TF_SEQUENCE_EXAMPLE"):
        Parser(schema_of(SCHEMA), "FORMAT_TF_SEQUENCE_EXAMPLE")


def test_every_row_comes_once_and_in_order(examples):
    """Whatever the size of the batches."""
    parser = Parser(schema_of(SCHEMA))
    file = str(examples / "Split-train/data_tfrecord-00000-of-00001")
    read = program(lambda serialized: parser.parse(serialized, ["number"]))
    at_once = [(rows, tensors["number"]) for rows, tensors in batches([file], read, 10_000)]
    parts = [(rows, tensors["number"]) for rows, tensors in batches([file], read, 700)]
    assert [rows for rows, _ in at_once] == [SPLITS["train"]]
    assert [rows for rows, _ in parts] == [700, 700, 600]
    assert tf.reduce_all(tf.concat([numbers for _, numbers in parts], 0) == at_once[0][1])


def test_large_rows_make_small_batches(tmp_path):
    """A batch is some megabytes at most."""
    file = str(tmp_path / "records")
    with tf.io.TFRecordWriter(file) as writer:
        for _ in range(20):
            writer.write(b"x" * (1 << 20))
    sizes = program(lambda serialized: {"bytes": tf.strings.length(serialized)})
    assert [rows for rows, _ in batches([file], sizes, 1000)] == [8, 8, 4]
