"""How much memory a process holds, from the kernel's own account (Linux)."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["peak_mb", "reset_peak"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def peak_mb() -> float:
    """The largest resident set of this process since it began or since `reset_peak`, in MB (10^6 bytes)."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024 / 1e6
    raise OSError(f"{_STATUS} tells no VmHWM")


def reset_peak() -> None:
    """Lets the peak begin again from what is held now; where the kernel does not allow it, the old peak stands."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
