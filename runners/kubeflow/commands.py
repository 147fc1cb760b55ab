"""The commands that compile a pipeline for Kubeflow Pipelines and hand it over. Importing it imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

if TYPE_CHECKING:
    from runners.kubeflow.client import Kubeflow
    from runners.kubeflow.compile import Compiled
    from schemas.load import LoadedConfig

__all__ = ["Values", "register", "repeat", "settle"]

_SETTLED_EVERY_S, _SETTLED_IN_S = 2.0, 3600.0


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="compile")(compile_)
    app.command()(submit)


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


Values = Annotated[
    list[str] | None, typer.Option("--value", metavar="KEY=VALUE", help="A parameter of the pipeline. Repeatable.")
]


def submit(
    config: Config = Path(DEFAULT),
    overrides: Overrides = None,
    values: Values = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended, and say what was decided.")] = True,
    every: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Between two questions.")] = 10.0,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")] = 86_400.0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a pipeline, upload it to Kubeflow Pipelines, run it there and wait: exit codes as of `run`."""
    with errors(as_json, debug):
        from runners.run import EXIT_CODES

        kubeflow = _connected(config, overrides or [])
        loaded, compiled = compiled_of(config, overrides or [])
        given = values_of(compiled, values or [])
        experiment, version = _uploaded(kubeflow, loaded, compiled)
        say = _sayer(as_json)
        run_id = kubeflow.start(experiment, f"{loaded.config.name} {version[1][:8]}", version, given)
        say(f"Run {run_id} of pipeline {loaded.config.name!r} has been started.")
        if not wait:
            if as_json:
                print_json({"run": run_id, "state": "started"})
            raise typer.Exit(0)
        ended = kubeflow.wait(run_id, every, timeout, say)
        found = _decision(loaded, run_id)
        outcome = found["outcome"] if found else ended.outcome
        if as_json:
            record = {"run": run_id, "state": ended.state, "outcome": outcome, "error": ended.error, "why": found}
            print_json({**record, "exit_code": EXIT_CODES[outcome]})
        else:
            for line in _ended_lines(ended, found, outcome):
                typer.echo(line)
    raise typer.Exit(EXIT_CODES[outcome])


def repeat(config: Path, overrides: list[str], cron: str, values: list[str], *, catch_up: bool, as_json: bool) -> None:
    """Has a pipeline run by the clock, on Kubeflow Pipelines; what was scheduled under its name before is replaced.

    Args:
        config: the pipeline's configuration.
        overrides: KEY=VALUE, compiled in.
        cron: six fields: seconds, minutes, hours, day, month, weekday.
        values: KEY=VALUE of the pipeline's parameters, for each run.
        catch_up: whether what was missed while it was paused is run.
        as_json: prints one JSON document.

    Raises:
        ConfigError: the expression, the configuration or a value is not as it should be.
        SatisficeError: Kubeflow cannot be reached, or refuses.
    """
    from runners.kubeflow.cron import cron_faults
    from schemas.errors import ConfigError

    faults = cron_faults(cron, "--cron")
    if faults:
        raise ConfigError("command line", faults)
    api = _connected(config, overrides)
    loaded, compiled = compiled_of(config, overrides)
    given = values_of(compiled, values)
    experiment, version = _uploaded(api, loaded, compiled)
    name = loaded.config.name
    recurring, replaced = api.repeat(experiment, name, version, cron, given, catch_up=catch_up)
    if as_json:
        print_json({"recurring_run": recurring, "replaced": replaced, "cron": cron, "pipeline": name})
    else:
        instead = f", in place of {replaced} earlier" if replaced else ""
        typer.echo(f"Scheduled pipeline {name!r} as recurring run {recurring}{instead}: {cron}")


def settle(
    config: Path,
    overrides: list[str],
    verb: Literal["approve", "reject"],
    run: str,
    by: str,
    reason: str,
    *,
    as_json: bool,
) -> int:
    """Has a person's decision on a run carried out where its artifacts are: as a run of its own on Kubeflow.

    Returns:
        The exit code.

    Raises:
        KubeflowError: the API refuses, or the run does not end.
    """
    from runners.local.quiet import noise_to
    from schemas.load import load_config

    kubeflow = _connected(config, overrides)
    loaded = load_config(config, overrides)
    with noise_to(None):
        from runners.kubeflow.compile import compile_settlement

        compiled = compile_settlement(loaded, verb, run, by, reason)
    name = f"{loaded.config.name}-{verb}"
    experiment, version = _uploaded(kubeflow, loaded, compiled, name)
    run_id = kubeflow.start(experiment, f"{verb} {run}", version, {})
    ended = kubeflow.wait(run_id, _SETTLED_EVERY_S, _SETTLED_IN_S, _sayer(as_json))
    done = ended.state == "SUCCEEDED"
    if as_json:
        print_json({"run": run, "kubeflow_run": run_id, "state": ended.state, "error": ended.error, "done": done})
    else:
        told = {"approve": "approved, and its push has ended", "reject": "rejected, nothing is pushed"}[verb]
        failed = f"failed: {ended.error or 'its log on Kubeflow says why'}"
        typer.echo(f"Run {run}: {told}." if done else f"{verb} of run {run} {failed}")
    return 0 if done else 1


def values_of(compiled: Compiled, given: list[str]) -> dict[str, object]:
    """The values for a pipeline's parameters, by name; a key of the configuration is a name too.

    Raises:
        ConfigError: a name is no parameter, or a value is not of its type.
    """
    import yaml

    from runners.kubeflow.compile import parameter_name
    from schemas.errors import ConfigError, Fault, close_match

    found: dict[str, object] = {}
    faults = []
    for pair in given:
        key, equals, text = pair.partition("=")
        name = parameter_name(key.strip())
        if not equals or name not in compiled.parameters:
            known = ", ".join(compiled.parameters) or "none: kubeflow.parameters names them"
            faults.append(
                Fault(f"--value {pair}", "is no parameter", known, "", close_match(name, compiled.parameters))
            )
            continue
        kind = type(compiled.parameters[name])
        value = text if kind is str else yaml.safe_load(text)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            faults.append(Fault(f"--value {pair}", "is of another type", kind.__name__, text))
        found[name] = value
    if faults:
        raise ConfigError("command line", faults)
    return found


def _connected(config: Path, overrides: list[str]) -> Kubeflow:
    """The API: what is wrong with it is said before anything is compiled."""
    from runners.kubeflow.client import Kubeflow
    from runners.kubeflow.places import section_of
    from schemas.load import load_config

    loaded = load_config(config, overrides)
    return Kubeflow(section_of(loaded.config, str(loaded.file))[0])


def _uploaded(
    kubeflow: Kubeflow, loaded: LoadedConfig, compiled: Compiled, name: str = ""
) -> tuple[str, tuple[str, str]]:
    """The ids of the experiment, and of the pipeline and its version that was uploaded."""
    section = loaded.config.kubeflow
    experiment = kubeflow.experiment((section.experiment if section else None) or loaded.config.name)
    pipeline, version, _ = kubeflow.upload(name or loaded.config.name, compiled)
    return experiment, (pipeline, version)


def _sayer(as_json: bool) -> Callable[[str], None]:
    """Writes to standard error where standard output is one JSON document."""
    return lambda text: typer.echo(text, err=as_json)


def _decision(loaded: LoadedConfig, run_id: str) -> dict[str, Any] | None:
    """What the lineage says of a run; None where the store is not one that this machine can read."""
    from components.lineage.reader import Lineage
    from runners.why import why
    from schemas.errors import MetadataError

    metadata = loaded.config.metadata
    if metadata.sqlite is not None:  # on the volume
        return None
    try:
        found = why(Lineage(metadata, loaded.config.name), run_id)
    except MetadataError:
        return None
    return {"outcome": found.run.outcome, **found.as_dict()}


def _ended_lines(ended: Any, found: dict[str, Any] | None, outcome: str) -> Iterator[str]:
    """What became of a run."""
    if found is not None:
        yield found["verdict"]
        yield from (f"  {reason}" for reason in found["reasons"])
        return
    told = {
        "pushed": "pushed, or already served",
        "blocked": "blocked by the gate, nothing was pushed",
        "data_blocked": "blocked by the data gate, nothing was trained",
        "pending": "waits for approval, nothing is pushed until a person approves",
        "failed": f"failed. {ended.error}".strip(),
    }
    yield f"Run {ended.run_id}: {told[outcome]}. The task Report on Kubeflow's page tells more."


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
