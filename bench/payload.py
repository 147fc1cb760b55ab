"""How rows should lie in an artifact of examples: what each way costs to write and to read again. Into RESULTS.md.

    python -m bench.payload [--rows 1000000] [--repeats 3] [--render]

The rows of one CSV file are held as columns. In turns each way writes them; then they are read as columns, which statistics,
analysis and training take, and as serialized tf.Examples, which a model's `serving_examples` and whatever is stock take.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from bench import data
from bench.process import REPOSITORY
from bench.turns import command, schedule, take
from components.example_gen.columns import columns_of
from components.example_gen.encode import encode, to_list_columns
from components.example_gen.read import read_batches
from components.example_gen.records import RecordFile, framed
from components.example_gen.sidecar import COLUMNS_FOLDER, SplitColumns, read_columns

__all__ = ["WAYS", "main"]

WORK = REPOSITORY / "bench" / "work" / "payload"
BENCHMARK = "payload"
_ROWS = 32_768
_SPLIT = "train"
_RECORDS = "records"
_PARQUET = "rows.parquet"


def main() -> None:
    """Command line."""
    parser = command("Measure payloads of examples.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the CSV file")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    arguments = parser.parse_args()
    turns = schedule({arguments.rows: arguments.repeats}, list(WAYS))
    take(arguments, BENCHMARK, WORK, turns, lambda name, rows, work: _measure(name, _batches(rows), work))


@functools.cache
def _batches(rows: int) -> list[pa.RecordBatch]:
    (csv,) = data.trips(rows).iterdir()
    schema = (REPOSITORY / "schemas" / "taxi" / "schema.pbtxt").read_text(encoding="utf-8")
    whole = read_batches(csv, "csv", columns_of(schema))
    return [batch.slice(start, _ROWS) for batch in whole for start in range(0, batch.num_rows, _ROWS)]


def _measure(name: str, batches: list[pa.RecordBatch], work: Path) -> dict[str, Any]:
    """Seconds of processor time to write, to read as columns, and as examples; the size, and the rows that came back."""
    write, columns, examples = WAYS[name]
    found: dict[str, Any] = {"write": _timed(lambda: write(batches, work))[0]}
    found["disk_mb"] = sum(file.stat().st_size for file in work.rglob("*") if file.is_file()) / 1e6
    found["columns"], rows = _timed(lambda: sum(batch.num_rows for batch in columns(work)))
    found["examples"], read = _timed(lambda: sum(examples(work)))
    wanted = sum(batch.num_rows for batch in batches)
    if (rows, read) != (wanted, wanted):
        raise RuntimeError(f"{wanted:,} rows were written, {rows:,} read as columns and {read:,} as examples")
    return {**found, "rows": rows}


def _timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    began, cpu = time.monotonic(), time.process_time()
    result = work()
    return {"wall_s": round(time.monotonic() - began, 3), "cpu_s": round(time.process_time() - cpu, 3)}, result


# --- the ways ---------------------------------------------------------------------------------------------------------


def _write_both(batches: list[pa.RecordBatch], work: Path) -> None:
    with RecordFile(work / _RECORDS) as records, SplitColumns([_SPLIT], work / COLUMNS_FOLDER) as columns:
        for batch in batches:
            records.write(framed(encode(batch)))
            columns.add(_SPLIT, batch)


def _write_with_tfx_bsl(batches: list[pa.RecordBatch], work: Path) -> None:
    encoder = RecordBatchToExamplesEncoder()
    with (
        tf.io.TFRecordWriter(str(work / _RECORDS)) as records,
        SplitColumns([_SPLIT], work / COLUMNS_FOLDER) as columns,
    ):
        for batch in batches:
            for example in encoder.encode(to_list_columns(batch)):
                records.write(example)
            columns.add(_SPLIT, batch)


def _write_parquet(batches: list[pa.RecordBatch], work: Path) -> None:
    with pq.ParquetWriter(work / _PARQUET, batches[0].schema, compression="snappy") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _columns_beside(work: Path) -> Iterator[pa.RecordBatch]:
    return read_columns(work, _SPLIT) or iter(())


def _columns_of_parquet(work: Path) -> Iterator[pa.RecordBatch]:
    batches: Iterator[pa.RecordBatch] = pq.ParquetFile(work / _PARQUET).iter_batches(_ROWS)
    return batches


def _records(work: Path) -> Iterator[int]:
    """Rows of each batch of examples, as TensorFlow reads them."""
    records = tf.data.TFRecordDataset([str(work / _RECORDS)], buffer_size=8 << 20)
    return (len(batch) for batch in records.batch(4096).as_numpy_iterator())


def _examples_of_parquet(work: Path) -> Iterator[int]:
    """The same of rows that have to be encoded first."""
    return (len(encode(batch).to_pylist()) for batch in _columns_of_parquet(work))


Way = tuple[
    Callable[[list[pa.RecordBatch], Path], None],
    Callable[[Path], Iterator[pa.RecordBatch]],
    Callable[[Path], Iterator[int]],
]
WAYS: dict[str, Way] = {
    "records-columns": (_write_both, _columns_beside, _records),
    "records-columns-tfx-bsl": (_write_with_tfx_bsl, _columns_beside, _records),
    "parquet": (_write_parquet, _columns_of_parquet, _examples_of_parquet),
}
"""How rows are written, read as columns, and read as examples."""


if __name__ == "__main__":
    main()
