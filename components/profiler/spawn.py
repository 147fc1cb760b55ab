"""Runs a piece of measuring in a process of its own, and tells in words what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Child", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a child came back with.

    Attributes:
        result: the JSON object that it wrote; None where it wrote none.
        problem: why there is no result, in a few words; "" where there is one.
    """

    result: dict[str, Any] | None
    problem: str = ""


class Child:
    """A process that runs `python -m MODULE JOB RESULT PARENT` in a group of its own."""

    def __init__(self, module: str, job: Mapping[str, Any] | None, folder: Path, name: str) -> None:
        """Starts it.

        Args:
            module: dotted name of a module that is run as a program. It takes the path of the job (JSON), the path of the
                result to write (JSON; `problem` in it says in words what went wrong) and the id of this process.
            job: plain JSON values; None for one that is given later (`give`): a module that knows of this finds no file
                when it starts, imports what it will need, and waits until its standard input ends.
            folder: for job and result.
            name: of both files, without their ending.
        """
        self._result = folder / f"{name}.result.json"
        self._job = folder / f"{name}.job.json"
        if job is not None:
            self._write(job)
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(self._job), str(self._result), str(os.getpid())],
            stdin=subprocess.DEVNULL if job is not None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )

    def give(self, job: Mapping[str, Any]) -> None:
        """Gives a process its job that was started without one. What became of one that has ended tells `wait`."""
        self._write(job)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _write(self, job: Mapping[str, Any]) -> None:
        half = self._job.with_suffix(".half")
        half.write_text(json.dumps(dict(job)), encoding="utf-8")
        half.replace(self._job)

    def wait(self, timeout_s: float) -> Outcome:
        """What it came back with; one that takes longer is killed."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return Outcome(None, f"did not answer within {timeout_s:g} s and was stopped")
        finally:
            self.kill()
        if status < 0:
            hint = " (out of memory?)" if -status == signal.SIGKILL else ""
            return Outcome(None, f"its process was killed by {_signal(-status)}{hint}")
        try:
            result = json.loads(self._result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return Outcome(None, f"its process ended with status {status} and without a result")
        return Outcome(None, result["problem"]) if "problem" in result else Outcome(result)

    def stop(self) -> None:
        """Has the process, and whatever it started, killed, and waits for nothing: for a handler of signals."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Ends the process and whatever it started, if they have not ended yet."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
