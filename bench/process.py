"""What a command costs, seen from outside, so that everything is measured in the same way."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "Cost", "Ended", "compile_bytecode", "python", "run_measured"]

REPOSITORY = Path(__file__).resolve().parents[1]
_PERIOD_S = 0.2
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall_s: from the start of the process to its end, imports included.
        cpu_s: user and system time of the process and of every child that it waited for.
        peak_rss_mb: the largest sum of the resident memory of all its processes, sampled five times a second.
    """

    wall_s: float
    cpu_s: float
    peak_rss_mb: float

    def as_dict(self) -> dict[str, float]:
        """Plain JSON values, rounded to a tenth."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: its exit code.
        output: what it wrote to standard output.
        cost: what it took.
    """

    code: int
    output: str
    cost: Cost


def run_measured(command: Sequence[str], log: Path) -> Ended:
    """Runs a command in the repository's folder; its standard error goes to the file `log`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = log.with_suffix(".out")
    with log.open("wb") as errors, output.open("wb") as out:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=out, stderr=errors, start_new_session=True
        )
        memory = _Memory(process.pid)
        memory.start()
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, gives what it used
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.stop()
    cost = Cost(wall, usage.ru_utime + usage.ru_stime, max(memory.peak_mb, usage.ru_maxrss * 1024 / 1e6))
    return Ended(process.returncode, output.read_text(encoding="utf-8", errors="replace"), cost)


def compile_bytecode() -> None:
    """Compiles whatever Python is installed or ours, so that no run pays for it; what is compiled is left alone."""
    for folder in (sysconfig.get_paths()["purelib"], *(str(REPOSITORY / name) for name in _PACKAGES)):
        compileall.compile_dir(folder, quiet=2, workers=0)


_PACKAGES = ("schemas", "serving", "components", "pipeline", "runners", "bench")


class _Memory(threading.Thread):
    """Samples the resident memory of a session's processes until it is stopped."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        self._session = session
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_PERIOD_S):
            self.peak_mb = max(self.peak_mb, _session_mb(self._session))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _session_mb(session: int) -> float:
    return sum(_resident_mb(entry, session) for entry in os.listdir("/proc") if entry.isdigit())


def _resident_mb(process: str, session: int) -> float:
    """Resident memory of a process, 0 where it is of another session or gone."""
    try:
        text = Path("/proc", process, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = text[text.rindex(")") + 2 :].split()  # from field 3 of proc(5) on: 6 is the session, 24 the resident pages
    return int(fields[21]) * _PAGE_MB if int(fields[3]) == session else 0.0


def python() -> str:
    """The interpreter that runs this."""
    return sys.executable
