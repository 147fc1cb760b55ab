"""How a command line begins and ends, whatever command it names: its own errors keep to what the commands promise."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from runners.command import print_json
from schemas.errors import ConfigError, Fault

__all__ = ["CommandLine", "keep_descriptors"]


class CommandLine(TyperGroup):
    """The commands. Wrong usage is one JSON document where that was asked for; a full disk is no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was named."""
        given = [*ctx.args]
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE or "--debug" in given:
                raise
            _say(error)
            raise typer.Exit(1) from None
        except Exception as error:
            usage = getattr(error, "format_message", None)
            if usage is None or "--json" not in given:
                raise
            wrong = ConfigError("command line", [Fault("(usage)", usage().rstrip("."))])
            print_json(wrong.as_dict())
            raise typer.Exit(wrong.exit_code) from None


def _say(error: OSError) -> None:
    """Says what went wrong with the system, on standard error: it may be that standard output takes no more."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    with contextlib.suppress(OSError):
        typer.echo(f"error: {error.filename or 'the output'}: {error.strerror or error}", err=True)


def keep_descriptors() -> None:
    """Opens standard input, output and error where the caller has closed them: no file of ours is to take their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))
