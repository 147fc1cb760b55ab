"""Keeps the noise of TensorFlow, Beam and absl off the terminal: what a process writes goes to a log file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

__all__ = ["noise_to", "without_empty"]


@contextlib.contextmanager
def noise_to(log: Path | None) -> Iterator[TextIO]:
    """Sends file descriptors 1 and 2 to a log file, for C++ code writes there too; yields the real standard output.

    Args:
        log: file to append to, its folder being made; None throws the noise away.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    real_out, real_err = os.dup(1), os.dup(2)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, real_err)
        stack.callback(os.close, real_out)
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, sink)
        stack.callback(_restore, real_out, real_err)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        screen = io.TextIOWrapper(
            os.fdopen(os.dup(real_out), "wb", buffering=0), encoding="utf-8", errors="replace", write_through=True
        )
        stack.callback(screen.close)
        yield screen


@contextlib.contextmanager
def without_empty(log: Path) -> Iterator[None]:
    """Takes the empty logs of a run that was refused away again, and its folder where nothing else is in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for one in log.parent.iterdir():
                if not one.stat().st_size:
                    one.unlink()
            log.parent.rmdir()
        raise


def _restore(real_out: int, real_err: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(real_out, 1)
    os.dup2(real_err, 2)
