"""Taxi trips in any number: the real ones as they are, or drawn from them with noise, block by block.

    python -m bench.data --rows 1000000 [--shards 8] [--seed 0]

A drawn trip is a real one on another day and of another length: moved by whole weeks, with fare and tip scaled together,
miles and seconds each by a factor of their own. Hour, weekday, areas, company, way of paying and what is missing stay. A block
follows from the seed and its number alone, so that the same rows come out whenever and in however many files they are
written, and memory does not grow with their number.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from bench.process import REPOSITORY

__all__ = ["REAL", "REAL_ROWS", "drawn", "main", "trips", "write"]

REAL = REPOSITORY / "data" / "taxi" / "data.csv"
REAL_ROWS = 15_002
CACHE = REPOSITORY / "bench" / "work" / "data"
BLOCK_ROWS = 100_000
_BYTES_PER_ROW = 150
_WEEK_S = 7 * 86_400
_WEEKS = 26
_NOISE = 0.1
_READ = pa.csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
_WRITE = pa.csv.WriteOptions(include_header=False, quoting_style="none")


def main() -> None:
    """Command line. Prints the folder."""
    parser = argparse.ArgumentParser(description="Write taxi trips.")
    parser.add_argument("--rows", type=int, required=True, help=f"{REAL_ROWS} are the real ones, unchanged")
    parser.add_argument("--shards", type=int, default=1, help="files")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    arguments = parser.parse_args()
    print(trips(arguments.rows, arguments.shards, arguments.seed))


def trips(rows: int, shards: int = 1, seed: int = 0) -> Path:
    """A folder that holds nothing but CSV files with so many trips; written where it is not there yet.

    Raises:
        OSError: the real trips are missing, or the disk has no room.
    """
    folder = CACHE / f"{rows}-{shards}-{seed}"
    if not folder.is_dir():
        half = folder.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        if rows == REAL_ROWS and shards == 1:
            shutil.copy(REAL, half / "data.csv")
        else:
            _check_room(half, rows)
            write(REAL, rows, half, shards, seed)
        half.rename(folder)
    return folder


def write(real: Path, rows: int, folder: Path, shards: int = 1, seed: int = 0) -> list[Path]:
    """Writes drawn trips into `data-<shard>-of-<shards>.csv`, in order, as evenly as it goes; returns the files."""
    table = pa.csv.read_csv(real, convert_options=_READ)
    files = [folder / f"data-{shard:05d}-of-{shards:05d}.csv" for shard in range(shards)]
    ends = [rows * (shard + 1) // shards for shard in range(shards)]
    begin = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(stack.enter_context(file.open("wb")), table.schema)) for file in files]
        for block in drawn(table, rows, seed):
            for first, last, writer in zip([0, *ends], ends, writers, strict=False):
                part = block.slice(max(first - begin, 0), max(min(last, begin + len(block)) - max(first, begin), 0))
                writer.write_table(part)
            begin += len(block)
    return files


def _writer(file: IO[bytes], schema: pa.Schema) -> pa.csv.CSVWriter:
    """Writes as the real file is written, without quotes: stock TFX takes those around a column's name for a part of it."""
    file.write(",".join(schema.names).encode() + b"\n")
    return pa.csv.CSVWriter(file, schema, write_options=_WRITE)


def drawn(real: pa.Table, rows: int, seed: int) -> Iterator[pa.Table]:
    """Tables of at most `BLOCK_ROWS` trips, together `rows`, with the columns and types of the real ones."""
    for block in range(-(-rows // BLOCK_ROWS)):
        yield _draw(real, min(BLOCK_ROWS, rows - block * BLOCK_ROWS), np.random.default_rng([seed, block]))


def _draw(real: pa.Table, rows: int, random: np.random.Generator) -> pa.Table:
    chosen = real.take(pa.array(random.integers(0, len(real), rows)))
    length, miles, seconds = (random.uniform(1 - _NOISE, 1 + _NOISE, rows) for _ in range(3))
    start = chosen["trip_start_timestamp"].to_numpy() + _WEEK_S * random.integers(-_WEEKS, _WEEKS + 1, rows)
    month = start.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    changed = {
        "fare": _scaled(chosen["fare"], length),
        "tips": _scaled(chosen["tips"], length),
        "trip_miles": _scaled(chosen["trip_miles"], miles),
        "trip_seconds": _scaled(chosen["trip_seconds"], seconds),
        "trip_start_timestamp": pa.array(start),
        "trip_start_month": pa.array(month),
    }
    columns = [changed.get(name, chosen[name]) for name in real.column_names]
    return pa.table([column.cast(field.type) for column, field in zip(columns, real.schema, strict=True)], real.schema)


def _scaled(column: pa.ChunkedArray, factor: npt.NDArray[np.float64]) -> pa.Array:
    """The values times the factors, in hundredths, or whole where they were; what is missing stays missing."""
    values = column.to_pandas().to_numpy(np.float64)
    digits = 0 if pa.types.is_integer(column.type) else 2
    return pa.array(np.round(values * factor, digits), from_pandas=True)


def _check_room(folder: Path, rows: int) -> None:
    free, need = shutil.disk_usage(folder).free, 2 * rows * _BYTES_PER_ROW
    if free < need:
        raise OSError(f"{rows:,} trips need {need / 1e9:.1f} GB below {folder}, {free / 1e9:.1f} GB are free")


if __name__ == "__main__":
    main()
