"""Applies a transform graph to examples, and writes transformed examples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.transform.records import Parser, batches, check_rows, program

__all__ = ["Transformer"]

_BATCH_ROWS = 8192


class Transformer:
    """A transform graph that is loaded once: the one that ships, not the function that it was traced from."""

    def __init__(self, graph: Path, parser: Parser, columns: Collection[str]) -> None:
        """Load a transform graph.

        Args:
            graph: folder of the artifact.
            parser: of the examples.
            columns: the features that the transformed features are made of.
        """
        self._output = tft.TFTransformOutput(str(graph))
        self._parser, self._columns = parser, tuple(columns)
        schema = self._output.transformed_metadata.schema
        self._converter = impl_helper.make_tensor_to_arrow_converter(schema)
        self._encoder = RecordBatchToExamplesEncoder(schema)
        self._program = program(self._transform)

    def write(self, files: Sequence[str], target: Path) -> int:
        """Writes the transformed examples of some files, in their order, as uncompressed TFRecords.

        Returns:
            The number of rows.

        Raises:
            DataError: a record is no example of the schema, or the preprocessing function gives more or fewer rows than
                it takes.
        """
        rows = 0
        with tf.io.TFRecordWriter(str(target)) as writer:
            for count, tensors in batches(files, self._program, _BATCH_ROWS):
                check_rows(count, tensors)
                for example in self._encoder.encode(self._converter.convert(tensors)):
                    writer.write(example)
                rows += count
        return rows

    def _transform(self, serialized: tf.Tensor) -> dict[str, Any]:
        transformed: dict[str, Any] = self._output.transform_raw_features(self._parser.parse(serialized, self._columns))
        return transformed
