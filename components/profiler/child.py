"""What a measuring process does: `python -m components.profiler.child JOB RESULT PARENT`.

A `payload` job loads one payload into a fresh process and tells its memory and its answers; a `latency` job loads all
payloads into one process and times them in turns; a `rehearsal` job loads one and runs the requests that it carries. A
fault of a payload becomes `problem`, in words, in the result.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.arrays import Array, save_arrays
from components.process import die_with_parent
from components.profiler.latency import Plan, time_in_turns
from components.profiler.memory import peak_mb, reset_peak
from components.profiler.rows import CannotAskError, Rows
from schemas.errors import shorten

__all__ = ["main"]

_log = logging.getLogger(__name__)

_LOADS = 3
_DISTINCT_REQUESTS = 32
_MEMORY_CALLS = 4
_ANSWER_ROWS = 512
_SHOWN = 240
_NICENESS = -10


def main(job_file: str, result_file: str) -> None:
    """Does the job in a file, and writes the result into another. Where there is no file yet, it gets ready and waits."""
    if not Path(job_file).is_file():
        _run_empty_graph()
        sys.stdin.read()
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        result = _JOBS[job["kind"]](job)
    except Exception as error:  # noqa: BLE001 - whatever a payload does wrong is what is to be told
        _log.exception("the %s job failed", job["kind"])
        result = {"problem": _in_words(error)}
    half = Path(f"{result_file}.half")
    half.write_text(json.dumps(result), encoding="utf-8")
    half.replace(result_file)


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no more is known"
    return text if isinstance(error, CannotAskError) else f"failed with {type(error).__name__}: {shorten(text, _SHOWN)}"


# --- one payload ------------------------------------------------------------------------------------------------------


def _payload(job: Mapping[str, Any]) -> dict[str, Any]:
    """Memory, parameters, and answers to the rows of parity.

    Job: `path`; `columns` (name in a request to column); `requests` and `parity`, files of rows, the second "" where no
    answers are wanted; `batch_sizes`; `answers`, the file to write; `rehearse`, whether it has to answer the
    requests that it carries. The memory is that of loading and running, beyond what this process held when it had
    TensorFlow's runtime and had run an empty graph.
    """
    from components.profiler.served import ServedModel, parameters

    rows = Rows.load(Path(job["requests"]))
    _run_empty_graph()
    reset_peak()
    empty = peak_mb()
    model = ServedModel(job["path"])
    tensors = model.requests(rows, job["columns"])
    _, call = model.caller()
    for size in job["batch_sizes"]:
        for number in range(_MEMORY_CALLS):
            call(*_batch(tensors, size, number))
    result: dict[str, Any] = {"empty_mb": empty, "peak_mb": peak_mb(), "parameters": parameters(job["path"])}
    if job["parity"]:
        arrays, result["problems"] = _answers(model, Rows.load(Path(job["parity"])), job["columns"])
        save_arrays(Path(job["answers"]), arrays)
    if job["rehearse"]:
        result["rehearsal"] = _rehearsed(model, job["path"])
    return result


def _rehearsal(job: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the payload at `path` and runs the requests that it carries."""
    from components.profiler.served import ServedModel

    return {"rehearsal": _rehearsed(ServedModel(job["path"]), job["path"])}


def _rehearsed(model: Any, path: str) -> dict[str, Any]:
    """How many golden and warm-up requests were answered as they should be, and what was wrong, in words."""
    from components.profiler.rehearsal import rehearse

    try:
        return rehearse(model, path)
    except Exception as error:  # noqa: BLE001 - as in `main`
        _log.exception("the rehearsal failed")
        return {"golden": 0, "warm_up": 0, "problem": _in_words(error)}


def _run_empty_graph() -> None:
    from components.profiler.runtime import Graph, Session

    with Graph().as_default() as graph, Session(graph=graph) as session:
        session.run(graph.create_op("NoOp", [], []))


def _answers(model: Any, rows: Rows, columns: Mapping[str, str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The outputs of each signature as `signature/output`, and why a signature gave none."""
    from components.profiler.served import EXAMPLES, FEATURES, RAW

    arrays, problems = {}, {}
    for signature in (RAW, EXAMPLES, FEATURES):
        try:
            tensors = model.requests(rows, columns, signature)
            names, call = model.caller(signature)
            parts = [
                call(*(tensor[start : start + _ANSWER_ROWS] for tensor in tensors))
                for start in range(0, rows.count, _ANSWER_ROWS)
            ]
        except Exception as error:  # noqa: BLE001 - the other signatures may answer
            problems[signature] = _in_words(error)
            continue
        for index, name in enumerate(names):
            arrays[f"{signature}/{name}"] = np.concatenate([part[index] for part in parts])
    return arrays, problems


def _batch(tensors: list[Array], size: int, number: int) -> list[Array]:
    """Request `number` of a size, from consecutive rows; begins again where they end."""
    chosen = np.arange(number * size, (number + 1) * size) % len(tensors[0])
    return [tensor[chosen] for tensor in tensors]


# --- all payloads in turns --------------------------------------------------------------------------------------------


def _latency(job: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of loading, of the first call, and of the calls that follow.

    Job: `payloads` (name to path), `columns`, `requests`, `batch_sizes`, `budget_s` for each size, `precision`, `seed`;
    `seconds`, the file to write, which holds `[blocks, calls]` under `size/name`.
    """
    rows = Rows.load(Path(job["requests"]))
    _run_empty_graph()
    models, load_s = _loaded(job["payloads"])
    tensors = {name: model.requests(rows, job["columns"]) for name, model in models.items()}
    callers = {name: model.caller()[1] for name, model in models.items()}
    first_s = {name: _first_call(call, tensors[name], job["batch_sizes"][0]) for name, call in callers.items()}
    seconds = {}
    for index, size in enumerate(job["batch_sizes"]):
        calls = {name: _calls(call, tensors[name], size) for name, call in callers.items()}
        plan = Plan(budget_s=job["budget_s"], precision=job["precision"], seed=job["seed"] + index)
        for name, blocks in time_in_turns(calls, plan).items():
            seconds[f"{size}/{name}"] = blocks
    save_arrays(Path(job["seconds"]), seconds)
    return {"load_s": load_s, "first_s": first_s}


def _loaded(payloads: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Loads each payload some times, in turns, and keeps the last of each."""
    from components.profiler.served import ServedModel

    models: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in payloads}
    for turn in range(_LOADS):
        for name in sorted(payloads, reverse=turn % 2 == 1):
            if name in models:
                models.pop(name).close()
            begun = time.perf_counter()
            models[name] = ServedModel(payloads[name])
            seconds[name].append(time.perf_counter() - begun)
    return models, seconds


def _first_call(call: Callable[..., Any], tensors: list[Array], size: int) -> float:
    request = _batch(tensors, size, 0)
    begun = time.perf_counter()
    call(*request)
    return time.perf_counter() - begun


def _calls(call: Callable[..., Any], tensors: list[Array], size: int) -> list[Callable[[], object]]:
    def bound(request: list[Array]) -> Callable[[], object]:
        return lambda: call(*request)

    return [bound(_batch(tensors, size, number)) for number in range(_DISTINCT_REQUESTS)]


_JOBS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "payload": _payload,
    "latency": _latency,
    "rehearsal": _rehearsal,
}


def _ask_for_quiet() -> None:
    """Goes before other work of the machine, where the system lets us, so that its load disturbs figures less."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[3]))
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _ask_for_quiet()
    main(sys.argv[1], sys.argv[2])
    sys.stderr.flush()
    os._exit(0)  # TensorFlow has been seen to crash while the interpreter cleans up, after all was done
