"""The columnar ExampleGen: CSV and Parquet rows become split, counted tf.Examples, a block of columns at a time."""

__all__ = ["columns", "component", "csv_faults", "driver", "encode", "executor", "read", "sidecar", "split"]
