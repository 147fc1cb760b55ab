"""`satisfice deploy render`: the files for the real TF Serving and what stands around it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

__all__ = ["deployments"]

deployments = typer.Typer(
    help="Files for TF Serving, its load balancers and its monitoring, and for training in Kubernetes.",
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
    training: Annotated[
        bool, typer.Option("--training", help="Instead, the training cluster in Kubernetes, into DIR/training.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite also what was edited there.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Render models.config, flags, compose file, Kubernetes manifests, HAProxy, nginx, Prometheus and Grafana.

    From the section `serving` of the configuration and the labels in the store. The same input gives the same files.
    With --training: Job, Service, account and role of a training in Kubernetes, from `training.kubernetes`.
    """
    with errors(as_json, debug):
        from schemas.load import load_config
        from serving.deploy import make_plan, write
        from serving.deploy import render as render_files

        found = load_config(config, overrides or []).config
        if training:
            from components.trainer.rendered import render_training

            cluster = render_training(found, str(config))
            folder = output / "training"
            _tell_training(cluster, write(cluster, folder, force=force), folder, as_json=as_json)
            return
        plan = make_plan(found, str(config))
        files = render_files(plan)
        done = write(files, output, force=force)
        if as_json:
            print_json(_document(plan, files, done, output))
        else:
            _tell(plan, done, output)


def _document(plan: Any, files: Any, done: Any, output: Path) -> dict[str, Any]:
    return {
        "model": plan.model,
        "labels": dict(plan.labels),
        "versions": list(plan.versions) or "newest",
        **_written(files, done, output),
    }


def _written(files: Any, done: Any, output: Path) -> dict[str, Any]:
    written = set(done.written)
    return {
        "folder": str(output.absolute()),
        "files": [
            {"path": path, "about": file.about, "written": path in written, "secret": file.secret}
            for path, file in sorted(files.items())
        ],
        "removed": list(done.removed),
    }


def _tell_training(files: Any, done: Any, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(_written(files, done, output))
        return
    _tell_files(done)
    changed = f"{len(done.written)} written, {len(done.unchanged)} as they were"
    typer.echo(f"{output}: {changed}.\nNext: read {output / 'README.md'}")


def _tell_files(done: Any) -> None:
    for path in sorted(done.written):
        typer.echo(f"written  {path}")
    for path in done.removed:
        typer.echo(f"removed  {path}")


def _tell(plan: Any, done: Any, output: Path) -> None:
    _tell_files(done)
    serves = f"versions {', '.join(map(str, plan.versions))}" if plan.versions else "the newest version"
    changed = f"{len(done.written)} written, {len(done.unchanged)} as they were"
    typer.echo(f"{output}: {changed}. {plan.model} serves {serves}.\nNext: read {output / 'README.md'}")
