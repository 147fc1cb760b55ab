"""The rows of a split as TFDV takes them: by the columns that our ExampleGen leaves, or decoded from the examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from tfx.components.util import tfxio_utils
from tfx_bsl.tfxio import dataset_options

from components.example_gen.encode import to_list_columns
from components.example_gen.sidecar import read_columns

__all__ = ["as_decoded", "from_columns", "from_records"]

_BATCH_ROWS = 16_384


def from_columns(examples: Any, split: str) -> Iterator[pa.RecordBatch] | None:
    """The rows by the columns beside the examples; None where there are none, or nobody said how many they should be.

    Args:
        examples: the Examples artifact.
        split: the split's name.
    """
    if not examples.has_custom_property(f"rows_{split}"):
        return None
    columns = read_columns(Path(examples.uri), split)
    return None if columns is None else map(as_decoded, columns)


def from_records(examples: Any, split: str) -> Iterator[pa.RecordBatch]:
    """The rows as TFX's own reader decodes them, whatever the payload's format."""
    source = tfxio_utils.get_split_tfxio(examples=[examples], split=split, telemetry_descriptors=["StatisticsGen"])
    options = dataset_options.RecordBatchesOptions(batch_size=_BATCH_ROWS, num_epochs=1, shuffle=False)
    batches: Iterator[pa.RecordBatch] = source.RecordBatches(options)
    return batches


def as_decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as it would come out of the decoder after a way through tf.Examples.

    Values come in lists, and a column without any value has no type.
    """
    lists = to_list_columns(batch)
    columns = [
        pa.nulls(batch.num_rows) if batch.num_rows and column.null_count == batch.num_rows else column
        for column in lists.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
