"""Keeps the logs of the members of a group that failed: TFX removes the output folder of a node that fails, and them with it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from components import progress
from schemas.errors import SatisficeError

__all__ = ["SUFFIX", "logs_kept"]

SUFFIX = ".workers"
"""Of the folder that holds them, beside the node's own log."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def logs_kept(logs: Path) -> Iterator[None]:
    """Copies the logs to where they stay, if what is done here fails, and has the error name that place.

    That is `NODE.workers` beside the node's own log where there is one; else a folder beside the node's output.

    Args:
        logs: folder in the node's output that holds `MEMBER.log` files; it need not be there.
    """
    try:
        yield
    except Exception as error:
        kept = _place(logs)
        try:
            copied = _copy(logs, kept)
        except OSError as trouble:
            _log.warning("the logs in %s could not be kept: %s", logs, trouble)
        else:
            if copied and isinstance(error, SatisficeError):
                error.say_instead(str(logs), str(kept))
        raise


def _place(logs: Path) -> Path:
    channel = progress.channel()
    output = logs.parent
    return channel.with_suffix(SUFFIX) if channel else output.with_name(f"{output.name}{SUFFIX}")


def _copy(logs: Path, kept: Path) -> int:
    """How many logs were copied; those of an attempt before this one go."""
    found = sorted(logs.glob("*.log"))
    if found:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
    for log in found:
        shutil.copyfile(log, kept / log.name)
    return len(found)
