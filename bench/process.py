"""What a command costs, seen from outside, so that everything is measured in the same way."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import sysconfig
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.process import die_with_parent

__all__ = ["REPOSITORY", "Cost", "Ended", "Sample", "compile_bytecode", "python", "run_measured", "stage"]

REPOSITORY = Path(__file__).resolve().parents[1]
_PERIOD_S = 0.2
_LEAST_PAUSE = 20
"""Pauses last at least so many times as long as a sample took, so that measuring takes a twentieth of a core at most."""
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall_s: from the start of the process to its end, imports included.
        cpu_s: user and system time of the process and of every child that it waited for.
        peak_rss_mb: the largest sum of the resident memory of all its processes, sampled; a page that several of them
            share, as forked ones do, counts for each.
        peak_pss_mb: the same with each shared page divided among those that share it (proportional set size): what the
            machine really has to hold.
    """

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    peak_pss_mb: float

    def as_dict(self) -> dict[str, float]:
        """Plain JSON values, rounded to a hundredth."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Sample:
    """What all processes of a command held and had used at one moment.

    Attributes:
        at: seconds since 1970.
        cpu_s: user and system time so far, with that of children that have ended.
        rss_mb, pss_mb: as `Cost` has them.
    """

    at: float
    cpu_s: float
    rss_mb: float
    pss_mb: float


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: its exit code.
        output: what it wrote to standard output.
        cost: what it took.
        started: seconds since 1970.
        samples: in order of time, about five a second.
    """

    code: int
    output: str
    cost: Cost
    started: float
    samples: tuple[Sample, ...]


def run_measured(command: Sequence[str], log: Path) -> Ended:
    """Runs a command in the repository's folder; its standard error goes to the file `log`. It dies with this process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = log.with_suffix(".out")
    with log.open("wb") as errors, output.open("wb") as out:
        started, began = time.monotonic(), time.time()
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - the sampler's thread begins later
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, gives what it used
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stop()
    largest = usage.ru_maxrss * 1024 / 1e6
    cost = Cost(
        wall,
        usage.ru_utime + usage.ru_stime,
        max([largest, *(sample.rss_mb for sample in sampler.samples)]),
        max([0.0, *(sample.pss_mb for sample in sampler.samples)]),
    )
    text = output.read_text(encoding="utf-8", errors="replace")
    return Ended(process.returncode, text, cost, began, tuple(sampler.samples))


def stage(samples: Sequence[Sample], begin: float, end: float) -> dict[str, float]:
    """What a part of a command took: `seconds`, `cpu_s` between the samples around it, and `peak_mb` (PSS).

    Args:
        samples: of the command, at least one.
        begin, end: seconds since 1970.
    """
    at = [sample.at for sample in samples]
    cpu = np.interp([begin, end], at, [sample.cpu_s for sample in samples])
    first, last = max(bisect_left(at, begin) - 1, 0), bisect_left(at, end)
    peak = max(sample.pss_mb for sample in samples[first : last + 1])
    return {"seconds": round(end - begin, 2), "cpu_s": round(float(cpu[1] - cpu[0]), 2), "peak_mb": round(peak, 1)}


def compile_bytecode() -> None:
    """Compiles whatever Python is installed or ours, so that no run pays for it; what is compiled is left alone."""
    for folder in (sysconfig.get_paths()["purelib"], *(str(REPOSITORY / name) for name in _PACKAGES)):
        compileall.compile_dir(folder, quiet=2, workers=0)


_PACKAGES = ("schemas", "serving", "components", "pipeline", "runners", "bench")


class _Sampler(threading.Thread):
    """Samples what a session's processes hold and use until it is stopped."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._session = session
        self._stopped = threading.Event()

    def run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            started = time.thread_time()
            sample = _sample(self._session)
            if sample is not None:
                self.samples.append(sample)
            pause = max(_PERIOD_S, _LEAST_PAUSE * (time.thread_time() - started))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _sample(session: int) -> Sample | None:
    """None where no process of the session is left."""
    now = time.time()
    members = [process for process in os.listdir("/proc") if process.isdigit() and _session_of(process) == session]
    found = [(fields, _pss_mb(process)) for process in members if (fields := _stat(process))]
    if not found:
        return None
    cpu = sum(int(fields[index]) for fields, _ in found for index in range(11, 15)) * _TICK_S
    return Sample(now, cpu, sum(int(fields[21]) for fields, _ in found) * _PAGE_MB, sum(pss for _, pss in found))


def _session_of(process: str) -> int:
    """0 where it is gone."""
    try:
        return os.getsid(int(process))
    except ProcessLookupError:
        return 0


def _stat(process: str) -> list[Any]:
    """Fields of proc_pid_stat(5) from the third on: 11 to 14 times, 21 resident pages; [] if gone."""
    try:
        text = Path("/proc", process, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _pss_mb(process: str) -> float:
    try:
        lines = Path("/proc", process, "smaps_rollup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # gone, or ending
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def python() -> str:
    """The interpreter that runs this."""
    return sys.executable
