"""The command `ci`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(ci)


def ci(
    config: Config = Path(DEFAULT),
    base: Annotated[
        str,
        typer.Option(metavar="REF|FILE.json", help="A commit to build and compare with, or a decision that was kept."),
    ] = "",
    rows: Annotated[int, typer.Option(min=0, help="Rows of the sample, at most; 0 for all.")] = 10_000,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the reports go.")] = Path(
        "ci-report"
    ),
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run on a sample in a temporary root that never pushes: exit code 0 would be pushed, 3 would be blocked.

    Writes comment.md for the pull request, junit.xml and report.json; report.json can be the base of a later run.
    """
    with errors(as_json, debug):
        from runners.ci.run import check_change
        from schemas.load import load_config

        logging.getLogger("absl").setLevel(logging.ERROR)
        report = check_change(load_config(config, overrides or []), base, rows, tuple(overrides or ()))
        output.mkdir(parents=True, exist_ok=True)
        comment = report.markdown()
        for name, text in {
            "comment.md": comment,
            "junit.xml": report.junit(),
            "report.json": json.dumps(report.as_dict(), indent=2) + "\n",
        }.items():
            (output / name).write_text(text, encoding="utf-8")
        if as_json:
            print_json(report.as_dict())
        else:
            typer.echo(
                f"{comment}\nComment rendered, not sent: {output / 'comment.md'} (beside it junit.xml, report.json)"
            )
    raise typer.Exit(report.exit_code)
