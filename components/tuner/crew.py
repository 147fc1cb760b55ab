"""Worker processes that train trial after trial, as whoever hands the trials out sees them. Imports no TensorFlow.

Each worker imports TensorFlow and reads the rows once. It dies with the process that started it, and one that dies takes
nothing with it: another is started in its place.

Protocol, a JSON object a line. In: `{"do": "train", "trial", "values"}`, `{"do": "export", "values", "folder"}`, and
`{"go_on": bool}` for each question. Out: `{"ready": {...}}`; the questions `{"built": {...}}` and `{"epoch": {...}}`; then
`{"done": {...}}`, `{"failed": cause}` for what may be the trial's own fault, or `{"fatal": {...}}`, an error of ours that each
trial would meet.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from schemas.errors import TuningError, from_record, shorten

__all__ = ["Crew", "Heard"]

_TAIL_BYTES = 4000
_LONGEST_WAIT_S = 3600
"""Of one call of the kernel, which takes no number of days."""
_STARTS = 3
"""Deaths in a row, without a word from any worker, after which it is not tried again."""


@dataclass(frozen=True)
class Heard:
    """What a worker said.

    Attributes:
        worker: its place in the crew.
        message: of the protocol; None where it died.
        cause: of its death, in words.
    """

    worker: int
    message: Mapping[str, Any] | None
    cause: str = ""


class Crew:
    """A fixed number of places, with a worker in each. A context manager: they end with it."""

    def __init__(self, work: Mapping[str, Any], places: Sequence[Mapping[str, str]], logs: Path) -> None:
        """Describes the crew; nothing is started.

        Args:
            work: JSON values that each worker gets.
            places: of each, what its environment has of its own.
            logs: folder for a log of each worker and for what it is told.
        """
        self._work, self._places, self._logs = dict(work), list(places), logs
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * len(self._places)
        self._buffers = [b""] * len(self._places)
        self._selector = selectors.DefaultSelector()
        self._silent_deaths = 0

    def __enter__(self) -> Self:
        """Starts all workers."""
        try:
            for place in range(len(self._places)):
                self._start(place)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all workers."""
        self.close()

    @property
    def size(self) -> int:
        """Number of places."""
        return len(self._places)

    def tell(self, worker: int, message: Mapping[str, Any]) -> None:
        """Sends a line to a worker. That it has died is heard of by `wait`."""
        process = self._processes[worker]
        assert process is not None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()

    def wait(self, timeout_s: float = math.inf) -> Heard | None:
        """The next thing that a worker says; a worker that died is replaced. None where none says anything in time.

        Args:
            timeout_s: how long to wait at most.

        Raises:
            SatisficeError: one of ours that every trial would meet.
            TuningError: no worker comes as far as saying anything.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for place, buffer in enumerate(self._buffers):
                line, newline, rest = buffer.partition(b"\n")
                if newline:
                    self._buffers[place] = rest
                    return self._said(place, json.loads(line))
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            for key, _ in self._selector.select(min(left, _LONGEST_WAIT_S)):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    return self._died(int(key.data))
                self._buffers[int(key.data)] += chunk

    def close(self, keep: int = 0) -> None:
        """Ends all workers but the first so many."""
        for place in range(keep, len(self._processes)):
            self._end(place)

    def replace(self, worker: int) -> None:
        """Kills a worker, with whatever it started, and starts another in its place."""
        self._end(worker)
        self._start(worker)

    def _said(self, place: int, message: Mapping[str, Any]) -> Heard:
        self._silent_deaths = 0
        if "fatal" in message:
            raise from_record(message["fatal"])
        return Heard(place, message)

    def _died(self, place: int) -> Heard:
        process = self._processes[place]
        assert process is not None
        cause = _cause_of(process.wait())
        self._end(place)
        self._silent_deaths += 1
        if self._silent_deaths >= _STARTS:
            log = self._log(place)
            raise TuningError(
                "the workers of the search",
                f"die before they train: {cause}: {shorten(_last_line(log), 600)}",
                remedy=f"Read {log}. A process that is killed without a word was often out of memory: lower training.tune.parallel.",
            )
        self._start(place)
        return Heard(place, None, cause)

    def _log(self, place: int) -> Path:
        return self._logs / f"worker-{place}.log"

    def _start(self, place: int) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        file = self._logs / f"worker-{place}.json"
        file.write_text(json.dumps({**self._work, "place": place, "parent": os.getpid()}), encoding="utf-8")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "TF_USE_LEGACY_KERAS": "1",
            **self._places[place],
        }
        environment.pop("TF_CONFIG", None)  # a trial is no member of a cluster
        with self._log(place).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "components.tuner.worker", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        assert process.stdout is not None
        self._processes[place], self._buffers[place] = process, b""
        self._selector.register(process.stdout, selectors.EVENT_READ, place)

    def _end(self, place: int) -> None:
        process = self._processes[place]
        if process is None:
            return
        self._processes[place], self._buffers[place] = None, b""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        assert process.stdin is not None
        self._selector.unregister(process.stdout)
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def _cause_of(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _last_line(file: Path) -> str:
    try:
        text = file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
