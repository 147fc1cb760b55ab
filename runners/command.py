"""What every command shares: its common options, how it prints JSON, and how an error becomes a message and a code."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import MetadataError, SatisficeError

__all__ = ["DEFAULT", "Config", "Debug", "Json", "Overrides", "errors", "in_either_order", "print_json"]

DEFAULT = "satisfice.yaml"

Config = Annotated[Path, typer.Argument(help="The pipeline's configuration.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: training.epochs=2. Repeatable.")
]


def in_either_order(what: str, config: Path) -> tuple[str, Path]:
    """What is asked for, and the configuration, where either may come first: `why taxi.yaml 3` is `why 3 taxi.yaml`.

    >>> in_either_order("taxi.yaml", Path("3"))
    ('3', PosixPath('taxi.yaml'))
    >>> in_either_order("taxi.yaml", Path(DEFAULT))
    ('latest', PosixPath('taxi.yaml'))
    >>> in_either_order("3", Path(DEFAULT))
    ('3', PosixPath('satisfice.yaml'))
    """
    if Path(what).suffix not in (".yaml", ".yml"):
        return what, config
    return ("latest" if config == Path(DEFAULT) else str(config)), Path(what)


@contextlib.contextmanager
def errors(as_json: bool, debug: bool) -> Iterator[None]:
    """Turns an error of ours into one message and its exit code; `--debug` shows the traceback on standard error."""
    try:
        yield
    except Exception as error:
        ours = error if isinstance(error, SatisficeError) else _of_the_store(error)
        if ours is None:
            raise
        if debug:
            traceback.print_exception(error)
        if as_json:
            print_json(ours.as_dict())
        else:
            typer.echo(f"error: {ours}", err=True)
        raise typer.Exit(ours.exit_code) from None


def _of_the_store(error: Exception) -> SatisficeError | None:
    """ML Metadata's own error, met while an open store was read or written, as one of ours; None for any other."""
    if not type(error).__module__.startswith("ml_metadata."):
        return None
    return MetadataError(
        "the metadata store",
        "cannot be read or written",
        got=" ".join(str(error).split()),
        remedy="It may be damaged or locked: put a backup in its place, or begin anew with another store and --root.",
    )


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))
