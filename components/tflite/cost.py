"""What a `.tflite` file costs: latency with one thread and with all, memory, load time, size. Imports no TensorFlow.

Memory is that of a fresh process for each file. Latency is that of LiteRT's interpreter with XNNPACK on one real row, the
call alone: all files in one process, in turns, so that what slows the machine down slows all of them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.process import die_with_parent
from components.profiler.latency import Plan, time_in_turns
from components.profiler.machine import threads
from components.profiler.memory import peak_mb, reset_peak
from components.profiler.spawn import Child, Outcome
from components.profiler.statistics import percentile, percentile_ratio
from components.tflite.arena import arena_bytes
from components.tflite.interpret import Interpreted
from schemas.decision import Figure
from schemas.metrics import PROFILED
from serving import tflite_file

__all__ = ["Limits", "costs"]

Array = npt.NDArray[Any]

_log = logging.getLogger(__name__)

_MODULE = "components.tflite.cost"
_MB = 1e6
_LOADS = 5
_PERCENTILES = {"latency_p50_ms": 50.0, "latency_p95_ms": 95.0, "latency_p99_ms": 99.0}


@dataclass(frozen=True)
class Limits:
    """How long measuring may take.

    Attributes:
        timeout_s: after which a process that does not answer is stopped.
        budget_s: for the calls with one number of threads, all files together.
        seed: of the order of the files and of the intervals.
    """

    timeout_s: float = 60.0
    budget_s: float = 0.8
    seed: int = 0


def costs(
    files: Mapping[str, Path],
    digests: Mapping[str, str],
    row: Mapping[str, Array],
    machine: str,
    champion: str = "",
    limits: Limits | None = None,
) -> list[Figure]:
    """The figures of each file.

    Args:
        files: name to path.
        digests: name to digest.
        row: one real row by the names of the arguments, `[1, …]`, not quantized.
        machine: its fingerprint.
        champion: the name of the file to which others' latency is put in proportion, or "".
        limits: how long it may take.
    """
    limits = limits or Limits()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="satisfice-tflite-cost-") as place:
        folder = Path(place)
        np.savez(folder / "row.npz", allow_pickle=False, **dict(row))
        alone = {name: _alone(path, folder, name, limits) for name, path in files.items()}
        sound = {name: str(path) for name, path in files.items() if not alone[name].problem}
        timed = _timed(sound, folder, limits) if sound else {}
        for name, path in files.items():
            subject = _Subject(digests[name], machine, alone[name].problem)
            figures += _sizes(subject, path)
            figures += _memory(subject, alone[name])
            figures += _latencies(subject, name, timed, champion, limits)
    return figures


def _alone(path: Path, folder: Path, name: str, limits: Limits) -> Outcome:
    job = {"kind": "alone", "path": str(path), "row": str(folder / "row.npz")}
    return Child(_MODULE, job, folder, f"alone-{name}").wait(limits.timeout_s)


def _timed(files: Mapping[str, str], folder: Path, limits: Limits) -> dict[str, Array]:
    """Seconds of calls, `[blocks, calls]`, under `threads/name`; empty where the process did not end well."""
    job = {
        "kind": "latency",
        "files": dict(files),
        "row": str(folder / "row.npz"),
        "threads": sorted({1, threads()}),
        "budget_s": limits.budget_s,
        "seed": limits.seed,
        "seconds": str(folder / "seconds.npz"),
    }
    outcome = Child(_MODULE, job, folder, "latency").wait(limits.timeout_s)
    if outcome.problem:
        _log.warning("latency was not measured: the process %s", outcome.problem)
        return {}
    with np.load(folder / "seconds.npz", allow_pickle=False) as found:
        return {key: found[key] for key in found.files}


@dataclass(frozen=True)
class _Subject:
    digest: str
    machine: str
    problem: str

    def figure(self, metric: str, value: float | None, how: str, **more: Any) -> Figure:
        timed = metric not in ("size_mb", "compressed_size_mb", "arena_mb")
        return Figure(
            metric=metric,
            value=value,
            unit=PROFILED[metric].unit,
            payload="tflite",
            digest=self.digest,
            how=how,
            machine=self.machine if timed else "",
            why_not=self.problem if value is None else "",
            **more,
        )


def _sizes(subject: _Subject, path: Path) -> Iterator[Figure]:
    yield subject.figure("size_mb", path.stat().st_size / _MB, "size of the file; 1 MB is 10^6 bytes")
    yield subject.figure("compressed_size_mb", tflite_file.compressed_bytes(path) / _MB, "packed with gzip")
    how = "tensors that are no constants, as TFLite plans them for one row without a delegate"
    yield subject.figure("arena_mb", arena_bytes(tflite_file.read(path)) / _MB, how)


def _memory(subject: _Subject, outcome: Outcome) -> Iterator[Figure]:
    found = outcome.result
    held = found["peak_mb"] - found["empty_mb"] if found else None
    how = "peak resident set of a fresh process that loads and runs it, less that of one with LiteRT and nothing loaded"
    yield subject.figure("peak_memory_mb", held, how)
    loads = found["load_s"] if found else []
    median = 1e3 * float(np.median(loads)) if loads else None
    yield subject.figure("load_time_ms", median, "median of loads in one process", n=len(loads) or None)


def _latencies(
    subject: _Subject, name: str, timed: Mapping[str, Array], champion: str, limits: Limits
) -> Iterator[Figure]:
    """With one thread under no slice, with all of the machine's under the slice `threads`."""
    for count in sorted({1, threads()}):
        blocks, theirs = timed.get(f"{count}/{name}"), timed.get(f"{count}/{champion}")
        for metric, q in _PERCENTILES.items():
            where = {} if count == 1 else {"threads": str(count)}
            how = f"LiteRT's interpreter with XNNPACK, {count} thread{'s' if count > 1 else ''}, in turns"
            if blocks is None:
                yield subject.figure(metric, None, how, slice=where, batch_size=1)
                continue
            found = percentile(blocks, q, limits.seed)
            compared = theirs is not None and name != champion
            ratio = percentile_ratio(blocks, theirs, q, limits.seed) if compared and theirs is not None else None
            yield subject.figure(
                metric,
                1e3 * found.value,
                how,
                n=blocks.size,
                interval=(1e3 * found.interval[0], 1e3 * found.interval[1]),
                slice=where,
                batch_size=1,
                ratio_to_champion=ratio.value if ratio else None,
                ratio_interval=ratio.interval if ratio else None,
            )


# --- in the measuring process -----------------------------------------------------------------------------------------


def main(job_file: str, result_file: str) -> None:
    """Does the job in a file, and writes the result into another."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        result = _JOBS[job["kind"]](job)
    except Exception as error:  # noqa: BLE001  # whatever a file does wrong is what is to be told
        _log.exception("the %s job failed", job["kind"])
        result = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    half = Path(f"{result_file}.half")
    half.write_text(json.dumps(result), encoding="utf-8")
    half.replace(result_file)


def _measure_alone(job: Mapping[str, Any]) -> dict[str, Any]:
    """Memory beyond an interpreter that has nothing loaded, and seconds of loading."""
    row = _row(job)
    from ai_edge_litert import interpreter  # noqa: F401  # what is there before a file is

    reset_peak()
    empty = peak_mb()
    Interpreted(job["path"], batch_rows=1).predict(row)
    peak = peak_mb()
    seconds = []
    for _ in range(_LOADS):
        begun = time.perf_counter()
        Interpreted(job["path"], batch_rows=1)
        seconds.append(time.perf_counter() - begun)
    return {"empty_mb": empty, "peak_mb": peak, "load_s": seconds}


def _measure_latency(job: Mapping[str, Any]) -> dict[str, Any]:
    row = _row(job)
    seconds: dict[str, Array] = {}
    for count in job["threads"]:
        models = {name: Interpreted(path, batch_rows=1, threads=count) for name, path in job["files"].items()}
        calls: dict[str, list[Callable[[], object]]] = {}
        for name, model in models.items():
            model.predict(row)  # leaves the row in the model's arguments
            calls[name] = [model.again]
        for name, blocks in time_in_turns(calls, Plan(budget_s=job["budget_s"], seed=job["seed"])).items():
            seconds[f"{count}/{name}"] = blocks
    with Path(job["seconds"]).open("wb") as file:
        np.savez(file, allow_pickle=False, **seconds)
    return {}


def _row(job: Mapping[str, Any]) -> dict[str, Array]:
    with np.load(job["row"], allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


_JOBS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "alone": _measure_alone,
    "latency": _measure_latency,
}


if __name__ == "__main__":
    die_with_parent(int(sys.argv[3]))
    main(sys.argv[1], sys.argv[2])
    sys.stderr.flush()
    os._exit(0)
