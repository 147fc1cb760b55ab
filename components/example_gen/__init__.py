"""The columnar ExampleGen: rows of files become split, counted tf.Examples, a block of columns at a time."""

__all__ = [
    "arrow_files",
    "casting",
    "columns",
    "component",
    "csv_faults",
    "csv_files",
    "driver",
    "encode",
    "executor",
    "fingerprint",
    "ingest",
    "on_beam",
    "parquet_files",
    "read",
    "records",
    "shards",
    "sidecar",
    "source_files",
    "split",
    "tfrecord_files",
]
