"""One run at a time on a pipeline root."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import RootLockedError

__all__ = ["exclusive", "holder"]

_NAME = ".lock"


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Holds the root for as long as the block runs. The lock ends with its process, however that ends.

    Args:
        root: pipeline root; it is made where it is missing.

    Raises:
        RootLockedError: where another process holds it; it is named.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 64).decode("ascii", "replace").strip() or "unknown"
            raise RootLockedError(
                str(root),
                f"another run holds this pipeline root (process {holder})",
                remedy="Wait for it to end, or give this run a root of its own: --root DIR.",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)


def holder(root: Path) -> str:
    """Who holds the root now, in words; "" where nobody does."""
    try:
        with exclusive(root):
            return ""
    except RootLockedError as error:
        return error.problem
