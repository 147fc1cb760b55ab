"""Examples of every kind of feature, and both ways to transform them: ours, and stock TFX's on Beam."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.trainer.export import raw_spec_of
from components.trainer.preprocessing import Preprocessing

FUNCTIONS = "tests.components.transform.functions"
SPLITS = {"train": 2000, "validate": 300, "eval": 500}

_DENSE = "presence { min_fraction: 1 } shape { dim { size: %d } }"
SCHEMA = "".join(
    f'feature {{ name: "{name}" type: {kind} {rest} }}\n'
    for name, kind, rest in (
        ("number", "FLOAT", _DENSE % 1),
        ("vector", "FLOAT", _DENSE % 3),
        ("weight", "FLOAT", _DENSE % 1),
        ("label", "INT", _DENSE % 1),
        ("whole", "INT", _DENSE % 1),
        ("key", "BYTES", _DENSE % 1),
        ("some", "FLOAT", ""),
        ("words", "BYTES", ""),
        ("rare", "BYTES", "value_count { max: 1 }"),
        ("unused", "INT", ""),
    )
)


def example(rng: np.random.Generator) -> bytes:
    """One row; what may be missing sometimes is."""
    number = rng.normal(3, 2)
    features: dict[str, Any] = {
        "number": [number],
        "vector": rng.normal([0, 5, -5], [1, 2, 3]).tolist(),
        "weight": [rng.uniform(0.5, 2)],
        "label": [int(number > 3)],
        "whole": [int(rng.integers(0, 100))],
        "key": [b"abcdef"[i : i + 1] if (i := int(rng.binomial(5, 0.3 + 0.05 * (number > 3)))) else b"a"],
        "some": rng.normal(size=rng.integers(0, 4)).tolist(),
        "words": [b"%c%d" % (97 + rng.integers(0, 4), rng.integers(0, 6)) for _ in range(rng.integers(0, 5))],
        "rare": [b"x%d" % rng.integers(0, 3)] if rng.random() < 0.3 else [],
    }
    return tf.train.Example(
        features=tf.train.Features(feature={name: _feature(name, values) for name, values in features.items()})
    ).SerializeToString()


def _feature(name: str, values: list[Any]) -> tf.train.Feature:
    if not values:
        return tf.train.Feature()
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write_examples(folder: Path, files: int = 1) -> None:
    """Writes the splits of some rows; `train` in several files, the last of them gzipped where there are more than one."""
    rng = np.random.default_rng(5)
    for split, rows in SPLITS.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        count = files if split == "train" else 1
        for number in range(count):
            gzipped = number > 0 and number == count - 1
            name = f"data_tfrecord-{number:05}-of-{count:05}{'.gz' if gzipped else ''}"
            with tf.io.TFRecordWriter(str(folder / f"Split-{split}" / name), "GZIP" if gzipped else "") as writer:
                for _ in range(rows // count):
                    writer.write(example(rng))


@dataclass(frozen=True)
class Result:
    """What a Transform node wrote, and what it was given.

    Attributes:
        graph: folder of the transform graph.
        raw: folder of the examples.
        schema: of the examples.
        transformed: folder of the transformed examples, which only stock TFX writes.
        rows_analyzed: as the artifact says it.
    """

    graph: Path
    raw: Path
    schema: str
    transformed: Path | None
    rows_analyzed: int | None

    @property
    def output(self) -> tft.TFTransformOutput:
        return tft.TFTransformOutput(str(self.graph))

    @property
    def assets(self) -> dict[str, bytes]:
        """The vocabularies as they stand; of gzipped records, the records."""
        return {
            file.name: gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            for file in (self.graph / "transform_fn" / "assets").glob("*")
        }

    def rows(self, split: str) -> dict[str, Any]:
        """The transformed values of a split, in the order of the records: feature -> array or ragged list.

        As the Trainer makes them of raw examples; of stock TFX's node, as it wrote them.
        """
        if self.transformed is None:
            found = self._as_trained(_records(self.raw, split))
        else:
            records = tf.constant(_records(self.transformed, split), tf.string)
            found = tf.io.parse_example(records, self.output.transformed_feature_spec())
        return {name: _values(value) for name, value in found.items()}

    def _as_trained(self, records: list[bytes]) -> dict[str, Any]:
        raw = raw_spec_of(text_format.Parse(self.schema, schema_pb2.Schema()))
        preprocessing = Preprocessing(str(self.graph / "transform_fn"))
        wanted = list(self.output.transformed_feature_spec())
        run = tf.function(
            lambda serialized: preprocessing(tf.io.parse_example(serialized, raw), wanted), autograph=False
        )
        found: dict[str, Any] = run(tf.constant(records, tf.string))
        return found


def _records(examples: Path, split: str) -> list[bytes]:
    files = sorted(str(file) for file in (examples / f"Split-{split}").iterdir())
    return [
        record
        for file in files
        for record in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "").as_numpy_iterator()
    ]


def _values(tensor: Any) -> Any:
    if isinstance(tensor, tf.SparseTensor):
        tensor = tf.RaggedTensor.from_sparse(tensor)
    return tensor.to_list() if isinstance(tensor, tf.RaggedTensor) else tensor.numpy()


def transform(
    examples: Path,
    schema: str,
    function: str,
    folder: Path,
    *,
    stock: bool = False,
    run: int = 1,
) -> Result:
    """Runs the executor of the Transform node, ours or stock TFX's, outside a pipeline; `folder` is the node's."""
    from tfx.components.util import examples_utils
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils, standard_artifacts

    from components.transform import stock as on_beam
    from components.transform.executor import Executor

    def artifact(kind: Any, uri: Path) -> Any:
        made = kind()
        made.uri = str(uri)
        return made

    given = artifact(standard_artifacts.Examples, examples)
    for split, rows in SPLITS.items():
        given.set_int_custom_property(f"rows_{split}", rows)
    given.split_names = artifact_utils.encode_split_names(sorted(path.name[6:] for path in examples.glob("Split-*")))
    examples_utils.set_payload_format(given, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    curated = artifact(standard_artifacts.Schema, folder / "schema")
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    (folder / "schema" / "schema.pbtxt").write_text(schema)
    graph = artifact(standard_artifacts.TransformGraph, folder / "transform_graph" / str(run))
    transformed = artifact(standard_artifacts.Examples, folder / "transformed_examples" / str(run))
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    inputs = {"examples": [given], "schema": [curated]}
    outputs = {"transform_graph": [graph]} | ({"transformed_examples": [transformed]} if stock else {})
    properties = {
        "preprocessing_fn": function,
        "preprocessing_fn_fingerprint": function,
        "code_fingerprint": "this test's",
    }
    if stock:
        on_beam.transform(context, inputs, outputs, properties)
    else:
        Executor(context).Do(inputs, outputs, properties)
    analyzed = graph.mlmd_artifact.custom_properties.get("rows_analyzed")
    written = Path(transformed.uri) if stock else None
    return Result(Path(graph.uri), examples, schema, written, analyzed.int_value if analyzed else None)
