"""Ingest alone: our ExampleGen's executor against stock CsvExampleGen's on the same CSV, into RESULTS.md.

    python -m bench.ingest [--rows 1000000] [--repeats 3] [--render]

Each executor runs in a process of its own that has imported all it needs before the clock starts; the records that it has
written are counted afterwards. Both write two splits, 2 : 1, which is stock's default.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench import data, render
from bench.compare import attempt, schedule
from bench.process import REPOSITORY, compile_bytecode, python, run_measured
from bench.records import Record, done, load, new_session

__all__ = ["main"]

WORK = REPOSITORY / "bench" / "work" / "ingest"
BENCHMARK = "ingest"
OURS, STOCK = "ours", "stock"
SPLITS = {"train": 2, "eval": 1}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure ingest alone.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the CSV file")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--session", default="", help="to go on with, though the code has changed since it began")
    parser.add_argument("--render", action="store_true", help="measure nothing; write RESULTS.md from what is known")
    parser.add_argument(
        "--inside", nargs=3, metavar=("WHO", "FOLDER", "OUTPUT"), help="run here, unmeasured from outside"
    )
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(_inside(arguments.inside[0], Path(arguments.inside[1]), Path(arguments.inside[2]))))
        return
    if not arguments.render:
        compile_bytecode()
        session = arguments.session or new_session()
        for rows, turn, name in schedule({arguments.rows: arguments.repeats}, [STOCK, OURS]):
            wanted = Record(BENCHMARK, name, rows, turn, session)
            if wanted.key not in done(load()):
                attempt(wanted, partial(_measure, name, rows), WORK)
    render.render(load(), arguments.session)


def _measure(name: str, rows: int, work: Path) -> dict[str, Any]:
    """`seconds` and `cpu_s` of the executor, `rows` by split, and what the process cost; RuntimeError where rows are lost."""
    log = work / "run.log"
    folder = data.trips(rows)
    ended = run_measured([python(), "-m", "bench.ingest", "--inside", name, str(folder), str(work / "out")], log)
    if ended.code:
        raise RuntimeError(f"the executor ended with exit code {ended.code}: see {log}")
    told = json.loads(ended.output.splitlines()[-1])
    counted = sum(told["rows"].values())
    if counted != rows:
        raise RuntimeError(f"{rows:,} rows went in and {counted:,} came out")
    return {**ended.cost.as_dict(), **told}


def _inside(name: str, folder: Path, output: Path) -> dict[str, Any]:
    executor, properties = _executor(name, folder)
    from tfx.types import standard_artifacts

    examples = standard_artifacts.Examples()
    examples.uri = str(output)
    output.mkdir(parents=True)
    began, cpu = time.monotonic(), _cpu_s()
    executor.Do({}, {"examples": [examples]}, properties)
    taken = {"seconds": round(time.monotonic() - began, 2), "cpu_s": round(_cpu_s() - cpu, 2)}
    return {**taken, "rows": {split: _count(output / f"Split-{split}") for split in SPLITS}}


def _executor(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The executor and the execution properties with which a pipeline calls it."""
    if name == OURS:
        from components.example_gen.columns import ingest_schema
        from components.example_gen.executor import Executor
        from schemas.config import SourceConfig

        schema = (REPOSITORY / "schemas" / "taxi" / "schema.pbtxt").read_text(encoding="utf-8")
        source = SourceConfig(format="csv", path=str(folder / "*.csv")).model_dump_json()
        return Executor(), {"source": source, "splits": json.dumps(SPLITS), "schema": ingest_schema(schema)}
    from tfx.components.example_gen import utils
    from tfx.components.example_gen.csv_example_gen import executor as stock
    from tfx.dsl.components.base import base_beam_executor
    from tfx.proto import example_gen_pb2
    from tfx.utils import proto_utils

    source_config = utils.make_default_input_config()
    splits = utils.make_default_output_config(source_config)
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder.parent), unique_id="1"
    )
    return stock.Executor(context), {
        "input_base": str(folder),
        "input_config": proto_utils.proto_to_json(source_config),
        "output_config": proto_utils.proto_to_json(splits),
        "output_data_format": example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE,
        "output_file_format": example_gen_pb2.FileFormat.FORMAT_TFRECORDS_GZIP,
    }


def _count(folder: Path) -> int:
    """Records in the files of a split, gzipped or not."""
    from bench.stock_tfx import count_rows
    from components.example_gen.encode import count_records

    plain = [file for file in folder.glob("*tfrecord*") if file.suffix != ".gz"]
    return count_rows(folder) + sum(count_records(file) for file in plain)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
