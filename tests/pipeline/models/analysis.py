"""A preprocessing_fn run over hand-made rows, as the Transform node and then the served model do."""

from pathlib import Path

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

SCHEMAS = Path(__file__).parents[3] / "schemas"


def feature_spec(name):
    """Column -> how its examples are parsed, by the curated schema of that name."""
    return schema_utils.schema_as_feature_spec(_schema(name)).feature_spec


def type_specs(name):
    """Column -> the tensors that a preprocessing_fn is given, by the curated schema of that name."""
    return {column: _type_spec(spec) for column, spec in feature_spec(name).items()}


def analyze(preprocessing_fn, schema, rows, folder):
    """A `tft.TFTransformOutput`, made from rows: column -> value, absent where it is missing."""
    lists = [{column: [row[column]] if column in row else [] for column in feature_spec(schema)} for row in rows]
    metadata = dataset_metadata.DatasetMetadata(_schema(schema))
    with beam.Pipeline(runner="FnApiRunner") as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        function = (pipeline | beam.Create(lists, reshuffle=False), metadata) | tft_beam.AnalyzeDataset(
            preprocessing_fn
        )
        _ = function | tft_beam.WriteTransformFn(str(folder / "transform"))
    return tft.TFTransformOutput(str(folder / "transform"))


def transform(output, schema, rows):
    """Transformed feature -> one array `[rows, 1]`."""
    raw = {column: _tensor(column, spec, rows) for column, spec in feature_spec(schema).items()}
    return {name: tensor.numpy() for name, tensor in output.transform_features_layer()(raw).items()}


def _type_spec(spec):
    if isinstance(spec, tf.io.FixedLenFeature):
        return tf.TensorSpec([None, *spec.shape], spec.dtype)
    return tf.SparseTensorSpec([None, None], spec.dtype)


def _tensor(column, spec, rows):
    present = [(index, row[column]) for index, row in enumerate(rows) if column in row]
    values = tf.constant([value for _, value in present], spec.dtype)
    if isinstance(spec, tf.io.FixedLenFeature):
        return tf.reshape(values, [len(rows), 1])
    indices = tf.reshape(tf.constant([[index, 0] for index, _ in present], tf.int64), [-1, 2])
    return tf.SparseTensor(indices, values, [len(rows), 1])


def _schema(name):
    text = (SCHEMAS / name / "schema.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, schema_pb2.Schema())
