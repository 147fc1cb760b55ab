"""What the machine is: a figure of time or memory means nothing without it, and is not reused on another one."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path

__all__ = ["load_average", "machine", "threads"]

_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@functools.cache
def machine() -> str:
    """Processor, cores, threads, kernel and TensorFlow in one line; the same text for the same machine at any time.

    How busy it is does not enter: see `load_average`.
    """
    governor = _first_line(_GOVERNOR)
    parts = [
        f"{_processor()} ({platform.machine()})",
        f"{os.cpu_count()} cores, {threads()} threads",
        *([f"governor {governor}"] if governor else []),
        f"{platform.system()} {platform.release()}",
        f"TensorFlow {importlib.metadata.version('tensorflow')}",
    ]
    return "; ".join(parts)


def threads() -> int:
    """How many threads TensorFlow runs an operation on where nobody says otherwise: the processors of this process."""
    return len(os.sched_getaffinity(0))


def load_average() -> float:
    """Processes that ran or waited to run in the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in _first_lines(_CPU_INFO):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown processor"


def _first_line(file: Path) -> str:
    lines = _first_lines(file)
    return lines[0].strip() if lines else ""


def _first_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
