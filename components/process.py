"""What a process of ours asks of the kernel. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["die_with_parent", "sigterm_raised"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Has the kernel kill this process when its parent ends, however that ends (Linux).

    Args:
        parent: its process id, where the parent could tell it; else it is asked for now.
    """
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def sigterm_raised() -> Iterator[None]:
    """Makes SystemExit of SIGTERM, so that what runs below can keep its state before its processes end.

    Nothing changes in a thread other than the main one, which alone hears signals.
    """

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
