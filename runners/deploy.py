"""`satisfice deploy render`: the files for the real TF Serving and what stands around it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

__all__ = ["deployments"]

deployments = typer.Typer(
    help="Files for TF Serving, its load balancers and its monitoring.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@deployments.callback()
def _deploy() -> None:
    """Files for TF Serving, its load balancers and its monitoring."""


@deployments.command()
def render(
    config: Config = Path(DEFAULT),
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where the files go.", show_default=True)
    ] = Path("deployment"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite also what was edited there.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Render models.config, flags, compose file, Kubernetes manifests, HAProxy, nginx, Prometheus and Grafana.

    From the section `serving` of the configuration and the labels in the store. The same input gives the same files.
    """
    with errors(as_json, debug):
        from schemas.load import load_config
        from serving.deploy import make_plan, write
        from serving.deploy import render as render_files

        plan = make_plan(load_config(config, overrides or []).config, str(config))
        files = render_files(plan)
        done = write(files, output, force=force)
        if as_json:
            print_json(_document(plan, files, done, output))
        else:
            _tell(plan, done, output)


def _document(plan: Any, files: Any, done: Any, output: Path) -> dict[str, Any]:
    written = set(done.written)
    return {
        "model": plan.model,
        "folder": str(output.absolute()),
        "labels": dict(plan.labels),
        "versions": list(plan.versions) or "newest",
        "files": [
            {"path": path, "about": file.about, "written": path in written, "secret": file.secret}
            for path, file in sorted(files.items())
        ],
        "removed": list(done.removed),
    }


def _tell(plan: Any, done: Any, output: Path) -> None:
    for path in sorted(done.written):
        typer.echo(f"written  {path}")
    for path in done.removed:
        typer.echo(f"removed  {path}")
    serves = f"versions {', '.join(map(str, plan.versions))}" if plan.versions else "the newest version"
    changed = f"{len(done.written)} written, {len(done.unchanged)} as they were"
    typer.echo(f"{output}: {changed}. {plan.model} serves {serves}.\nNext: read {output / 'README.md'}")
