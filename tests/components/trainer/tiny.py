"""A small data set with a feature of every form, and what tf.Transform would write for it, made without Beam.

tf.Transform's own tracing writes the preprocessing; nothing is analyzed, so that there is nothing to run over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

SCHEMA = """
feature { name: "pair" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 2 } } }
feature { name: "one" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "flat" type: FLOAT presence { min_fraction: 1 } shape { } }
feature { name: "word" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "whole.number" type: INT value_count { min: 1 max: 1 } }
feature { name: "2nd real" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "target" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "answer" type: FLOAT value_count { min: 1 max: 1 } }
"""
"""`pair`, `one` and `flat` are in every row; `word`, `whole.number` and `2nd real` may be missing; the label is made of
`target` and `answer`, which a request does not have."""

LABEL = "label"

RAW_SPEC = {
    "pair": tf.io.FixedLenFeature([2], tf.float32),
    "one": tf.io.FixedLenFeature([1], tf.float32),
    "flat": tf.io.FixedLenFeature([], tf.float32),
    "word": tf.io.VarLenFeature(tf.string),
    "whole.number": tf.io.VarLenFeature(tf.int64),
    "2nd real": tf.io.VarLenFeature(tf.float32),
    "target": tf.io.FixedLenFeature([1], tf.int64),
    "answer": tf.io.VarLenFeature(tf.float32),
}

TRANSFORMED_SPEC = {
    "pair": tf.io.FixedLenFeature([2], tf.float32),
    "sum": tf.io.FixedLenFeature([1], tf.float32),
    "flat": tf.io.FixedLenFeature([], tf.float32),
    "letters": tf.io.FixedLenFeature([1], tf.float32),
    "number": tf.io.FixedLenFeature([1], tf.float32),
    "real": tf.io.FixedLenFeature([1], tf.float32),
    LABEL: tf.io.FixedLenFeature([1], tf.int64),
}


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Each way of being missing has a value of its own."""
    return {
        "pair": inputs["pair"],
        "sum": inputs["one"] + tf.expand_dims(inputs["flat"], -1),
        "flat": inputs["flat"],
        "letters": tf.cast(tf.strings.length(_dense(inputs["word"], "a long word for none")), tf.float32),
        "number": tf.cast(_dense(inputs["whole.number"], -50), tf.float32),
        "real": _dense(inputs["2nd real"], -7.0),
        LABEL: tf.where(_dense(inputs["answer"], 1.0) > 0.0, inputs["target"], 0),
    }


def _dense(value: Any, missing: Any) -> Any:
    column = tf.SparseTensor(value.indices, value.values, [value.dense_shape[0], 1])
    return tf.sparse.to_dense(column, default_value=missing)


def example(index: int) -> bytes:
    """The raw example of a row. Every second row lacks what may be missing, each column in other rows."""
    features = {
        "pair": _floats(index, -0.5 * index),
        "one": _floats(0.25 * index),
        "flat": _floats(3.0 - index),
        "target": _ints(index % 2),
    }
    if index % 2:
        features["word"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"w" * index]))
    if index % 3:
        features["whole.number"] = _ints(index)
    if index % 4:
        features["2nd real"] = _floats(0.1 * index)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_transform_output(folder: Path) -> Any:
    """The `tft.TFTransformOutput` of `preprocessing_fn`."""
    signature = {
        name: tf.TensorSpec([None, *form.shape], form.dtype)
        if isinstance(form, tf.io.FixedLenFeature)
        else tf.SparseTensorSpec([None, None], form.dtype)
        for name, form in RAW_SPEC.items()
    }
    impl_helper.trace_and_write_v2_saved_model(
        str(folder / tft.TFTransformOutput.TRANSFORM_FN_DIR),
        preprocessing_fn,
        signature,
        str(folder / "temporary"),
        baseline_analyzers_fingerprint={},
        tensor_replacement_map=None,
        output_keys_to_name_map=None,
        save_options=None,
    )
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata.from_feature_spec(TRANSFORMED_SPEC),
        str(folder / tft.TFTransformOutput.TRANSFORMED_METADATA_DIR),
    )
    return tft.TFTransformOutput(str(folder))


def write_raw(path: Path, rows: Sequence[int]) -> None:
    """The raw examples of some rows, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in rows:
            writer.write(example(row))


def _floats(*values: float) -> Any:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _ints(*values: int) -> Any:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@dataclass(frozen=True)
class Tiny:
    """What ExampleGen and Transform would hand to the Trainer.

    Attributes:
        folder: with the transform output and the schema.
        transformed: its `tft.TFTransformOutput`.
        train, validate: patterns of raw examples; 37 and 10 rows.
    """

    folder: Path
    transformed: Any
    train: str
    validate: str

    @property
    def schema(self) -> Path:
        return self.folder / "schema.pbtxt"


def write_tiny(folder: Path) -> Tiny:
    """All of it, below a folder."""
    transformed = write_transform_output(folder)
    write_raw(folder / "Split-train" / "part-0.gz", range(20))
    write_raw(folder / "Split-train" / "part-1.gz", range(20, 37))
    write_raw(folder / "Split-validate" / "part-0.gz", range(37, 47))
    (folder / "schema.pbtxt").write_text(SCHEMA)
    return Tiny(folder, transformed, f"{folder}/Split-train/*", f"{folder}/Split-validate/*")
