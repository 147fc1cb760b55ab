"""Ingest alone: our ExampleGen's executor against stock CsvExampleGen's on the same CSV, into RESULTS.md.

    python -m bench.ingest [--rows 1000000] [--repeats 3] [--render]

Each executor runs in a process of its own that has imported all it needs before the clock starts; the records that it has
written are counted afterwards. Both write two splits, 2 : 1, which is stock's default.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

from bench import data
from bench.process import REPOSITORY, python, run_measured
from bench.turns import command, schedule, take

__all__ = ["main"]

WORK = REPOSITORY / "bench" / "work" / "ingest"
BENCHMARK = "ingest"
OURS, STOCK = "ours", "stock"
SPLITS = {"train": 2, "eval": 1}


def main() -> None:
    """Command line."""
    parser = command("Measure ingest alone.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the CSV file")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument(
        "--inside", nargs=3, metavar=("WHO", "FOLDER", "OUTPUT"), help="run here, unmeasured from outside"
    )
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(_inside(arguments.inside[0], Path(arguments.inside[1]), Path(arguments.inside[2]))))
        return
    take(arguments, BENCHMARK, WORK, schedule({arguments.rows: arguments.repeats}, [STOCK, OURS]), _measure)


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
    component = _component(name, folder)
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import standard_artifacts

    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(output.parent), unique_id="1"
    )
    executor = component.executor_spec.executor_class(context)
    examples = standard_artifacts.Examples()
    examples.uri = str(output)
    output.mkdir(parents=True)
    began, cpu = time.monotonic(), _cpu_s()
    executor.Do({}, {"examples": [examples]}, dict(component.exec_properties))
    taken = {"seconds": round(time.monotonic() - began, 2), "cpu_s": round(_cpu_s() - cpu, 2)}
    return {**taken, "rows": {split: _count(output / f"Split-{split}") for split in SPLITS}}


def _component(name: str, folder: Path) -> Any:
    """The component as a pipeline builds it: its executor, and the execution properties with which that is called."""
    if name == STOCK:
        from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen

        return CsvExampleGen(input_base=str(folder))
    from components.example_gen.component import ExampleGen
    from schemas.config import SourceConfig

    source = SourceConfig(format="csv", path=str(folder / "*.csv"))
    return ExampleGen(source, SPLITS, str(REPOSITORY / "schemas" / "taxi" / "schema.pbtxt"))


def _count(folder: Path) -> int:
    """Records in the files of a split, gzipped or not."""
    from bench.stock_tfx import count_rows
    from components.example_gen.records import count_records

    plain = [file for file in folder.glob("*tfrecord*") if file.suffix != ".gz"]
    return count_rows(folder) + sum(count_records(file) for file in plain)


def _cpu_s() -> float:
    """User and system time of this process and of its children that have ended."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


if __name__ == "__main__":
    main()
