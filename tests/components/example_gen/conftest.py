"""The taxi rows that the wheel of tfx brings, and what reads examples back."""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pytest

from components.example_gen.read import infer_columns


@pytest.fixture(scope="session")
def taxi_csv():
    """15,002 rows, 18 columns; `company` is missing in 5,140 of them."""
    package = Path(importlib.util.find_spec("tfx").origin).parent
    return package / "examples/chicago_taxi_pipeline/data/simple/data.csv"


@pytest.fixture(scope="session")
def taxi_columns(taxi_csv):
    """The types of its columns."""
    return infer_columns([taxi_csv], "csv", [])


@pytest.fixture(scope="session")
def taxi_schema(taxi_columns):
    """A minimal schema of it, in text format."""
    return "".join(f'feature {{ name: "{name}" type: {kind.value} }}\n' for name, kind in taxi_columns.items())


@pytest.fixture(scope="session")
def decode():
    """Reads a split's file back: a dict of lists with None where a feature is missing, in the order of the records."""
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    def one(path, names):
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        batch = ExamplesToRecordBatchDecoder().DecodeBatch(records)
        table = {name: [None] * len(records) for name in names}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if not pa.types.is_null(column.type):
                assert set(column.value_lengths().drop_null().to_pylist()) <= {1}
                table[name] = [value and value[0] for value in column.to_pylist()]
        return table

    return one
