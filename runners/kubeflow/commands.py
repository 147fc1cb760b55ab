"""The commands that compile a pipeline for Kubeflow Pipelines and hand it over. Importing it imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

if TYPE_CHECKING:
    from runners.kubeflow.compile import Compiled
    from schemas.load import LoadedConfig

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="compile")(compile_)


def compile_(
    config: Config = Path(DEFAULT),
    to: Annotated[str, typer.Option(help="For what: kubeflow.")] = "kubeflow",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the YAML goes.")] = Path(
        "pipeline.yaml"
    ),
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a pipeline for Kubeflow Pipelines: one container for each node. The same things give the same file."""
    with errors(as_json, debug):
        from schemas.errors import ConfigError, Fault, close_match

        if to != "kubeflow":
            fault = Fault("--to", "is nothing to compile for", "kubeflow", to, close_match(to, ["kubeflow"]))
            raise ConfigError("command line", [fault])
        loaded, compiled = compiled_of(config, overrides or [])
        write_whole(output, compiled.text)
        if as_json:
            print_json({"file": str(output), "nodes": list(compiled.nodes), "parameters": compiled.parameters})
        else:
            given = ", ".join(f"{name}={value}" for name, value in compiled.parameters.items())
            typer.echo(f"Wrote {output}: {len(compiled.nodes)} nodes of pipeline {loaded.config.name!r}.")
            typer.echo(f"  parameters: {given}" if given else "  no parameters (kubeflow.parameters names them)")


def compiled_of(config: Path, overrides: list[str]) -> tuple[LoadedConfig, Compiled]:
    """Reads and compiles a configuration, with the noise of TensorFlow thrown away."""
    from runners.local.quiet import noise_to
    from schemas.load import load_config

    loaded = load_config(config, overrides)
    with noise_to(None):
        from runners.kubeflow.compile import compile_pipeline

        return loaded, compile_pipeline(loaded)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that whoever looks finds the old one or the whole new one.

    Raises:
        ConfigError: it cannot be written.
    """
    from schemas.errors import ConfigError, Fault

    half: Any = None
    try:
        handle, half = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(half, 0o644)
        os.replace(half, path)
    except OSError as error:
        if half is not None:
            with contextlib.suppress(OSError):
                os.unlink(half)
        fault = Fault(
            "--output", f"cannot be written: {error.strerror}", "a file in a folder that can be written to", str(path)
        )
        raise ConfigError("command line", [fault]) from error
