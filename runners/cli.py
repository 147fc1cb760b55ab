"""The command line. Importing it imports neither TensorFlow nor TFX, so that `--help` answers at once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from runners.backfill import register as register_backfill
from runners.ci.commands import register as register_ci
from runners.command import DEFAULT as _DEFAULT
from runners.command import Config, Debug, Json, Overrides, in_either_order
from runners.command import errors as _errors
from runners.command import print_json as _print_json
from runners.deploy import deployments
from runners.entry import CommandLine, keep_descriptors
from runners.kubeflow.commands import register as register_kubeflow
from runners.kubeflow.commands import settle
from runners.schedule.commands import register as register_schedule
from runners.versions import allow_digest, register

__all__ = ["app", "main"]

app = typer.Typer(
    cls=CommandLine,
    help="Trains models, admits them only when they are good enough on every count, and ships them with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_PLAIN_EVERY_S, _VERBOSE_EVERY_S = 30.0, 2.0
"""Pauses between two lines on a running node, where the output is no terminal."""

Root = Annotated[Path | None, typer.Option("--root", help="Pipeline root. [default: pipelines/NAME beside CONFIG]")]


def main() -> None:
    """Entry point of the `satisfice` command."""
    keep_descriptors()
    app(prog_name="satisfice")


@app.command()
def run(  # noqa: PLR0913 - one argument for each option
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    root: Root = None,
    runner: Annotated[str, typer.Option(help="local, or tfx-local for TFX's own LocalDagRunner.")] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run, cut off or failed.")] = False,
    from_node: Annotated[str, typer.Option("--from", metavar="NODE", help="Run NODE and what follows anew.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say what would run, and why; run nothing.")] = False,
    accept: Annotated[
        str,
        typer.Option(
            "--accept-without-champion", metavar="REASON", help="Admit a candidate whose champion cannot be evaluated."
        ),
    ] = "",
    verbose: Annotated[bool, typer.Option(help="Tell of running nodes often, where there is no terminal.")] = False,
    allow: Annotated[str, typer.Option(metavar="DIGEST", help="Let bytes that were rolled back be pushed again.")] = "",
    span: Annotated[
        str, typer.Option(metavar="N|DATE", help="End the window of spans at this one. [default: the newest]")
    ] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a pipeline: exit code 0 pushed or already served, 3 blocked, 4 waits for approval, 2 bad configuration, 1 failed."""
    with _errors(as_json, debug):
        from runners.run import Options

        overrides = [*(overrides or []), *([f"data.source.span={json.dumps(span)}"] if span else [])]
        command = _command(config, overrides, root, runner, accept)
        options = Options(_runner(runner), tuple(overrides), resume, from_node, command, accept.strip())
        _refuse_with_tfx_local(options, explain=explain)
        if allow and not explain:
            allow_digest(config, overrides, allow, reason="satisfice run --allow")
        if explain:
            code = _explain(config, root, options, as_json=as_json)
        else:
            code = _run(config, root, options, as_json=as_json, verbose=verbose, debug=debug)
    raise typer.Exit(code)


@app.command()
def validate(
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    root: Root = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a configuration, its data files and its module; list all faults at once."""
    with _errors(as_json, debug):
        from runners.local.quiet import noise_to
        from runners.run import default_root
        from schemas.errors import ConfigError
        from schemas.load import load_config, read_raw

        try:
            loaded = load_config(config, overrides or [])
        except ConfigError as error:
            with noise_to(None):
                from pipeline.check import check_beside

                beside = check_beside(read_raw(config, overrides or []), config.absolute().parent)
            known = {fault.path for fault in error.faults}
            found = [fault for fault in beside if fault.path not in known]
            raise ConfigError(error.source, [*error.faults, *found]) from error
        with noise_to(None):
            from pipeline.check import check
            from runners.beam import engine_faults

            place = root or default_root(loaded)
            module = check(loaded, place, beside=engine_faults(loaded.config, str(place)))
        if loaded.config.schedule is not None:
            from runners.schedule.look import check_schedule

            check_schedule(loaded.config, str(loaded.file))
        from components.trainer.strategy import find_machine, make_plan
        from runners.notes import data_line, data_read

        plan = make_plan(loaded.config.training, find_machine())
        read = data_read(loaded.config.data.source)
        searches = _search_lines(loaded.config)
        if as_json:
            _print_json(
                {
                    "valid": True,
                    "name": loaded.config.name,
                    "digest": loaded.digest,
                    "module": module.name,
                    "data": read,
                    "training": plan.as_dict(),
                    "tuning": searches,
                }
            )
        else:
            typer.echo(f"{config}: no faults. Pipeline {loaded.config.name!r}, digest {loaded.digest[:12]}.")
            typer.echo(data_line(read))
            typer.echo(f"training: {plan}")
            for line in [*(f"  {reason}" for reason in plan.reasons), *searches]:
                typer.echo(line)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    data: Annotated[Path, typer.Option(help="A CSV or Parquet file.")],
    label: Annotated[str, typer.Option(help="The column to predict.")],
    name: Annotated[str | None, typer.Option(help="Name of the pipeline. [default: from DIR]")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a new pipeline around your data: configuration, inferred schema, model module."""
    with _errors(as_json, debug):
        from runners.local.quiet import noise_to

        with noise_to(None):
            from pipeline.scaffold.write import init_pipeline

            written = init_pipeline(directory, data, label, name)
        if as_json:
            _print_json(
                {
                    "directory": str(directory),
                    "task": written.task,
                    "files": [str(f) for f in written.files],
                    "ignored": written.ignored,
                }
            )
        else:
            typer.echo(f"Wrote a {written.task} pipeline for {label!r}:")
            for file in written.files:
                typer.echo(f"  {file}")
            for column, why in written.ignored.items():
                typer.echo(f"Column {column!r} is not used: {why}.")
            typer.echo(f"Next: satisfice run {directory / _DEFAULT}")


@app.command()
def runs(
    config: Config = Path(_DEFAULT), overrides: Overrides = None, as_json: Json = False, debug: Debug = False
) -> None:
    """List the runs of a pipeline, the newest first."""
    with _errors(as_json, debug):
        found = _lineage(config, overrides).runs()
        if as_json:
            _print_json([one.summary() for one in found])
        elif not found:
            typer.echo("No runs yet.")
        else:
            from runners.view import console_on, runs_table

            console_on(sys.stdout).print(runs_table(found))


@app.command()
def show(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or latest.")
    ] = "latest",
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    every_slice: Annotated[
        bool, typer.Option("--all", help="Every slice of every gate, every limit on drift, every trial.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one run: its nodes, their outputs, every gate's verdict, and what was pushed."""
    with _errors(as_json, debug):
        run_id, config = in_either_order(run_id, config)
        lineage = _lineage(config, overrides)
        found = lineage.run(run_id)
        nodes = lineage.nodes(found)
        decision, push = lineage.decision(found.run_id), lineage.push_result(found.run_id)
        data_decision = lineage.data_decision(found.run_id)
        from runners.leaderboard import leaderboard, search_of
        from runners.notes import training_of

        trained = training_of(nodes)
        searched = search_of(nodes)
        if as_json:
            _print_json(
                {
                    "run": {**found.summary(), "config": json.loads(found.config)},
                    "nodes": [_node_json(node) for node in nodes],
                    "training": trained,
                    "tuning": searched.model_dump(mode="json") if searched else None,
                    "data_decision": data_decision.model_dump(mode="json") if data_decision else None,
                    "decision": decision.model_dump(mode="json") if decision else None,
                    "push": push.model_dump(mode="json") if push else None,
                }
            )
            return
        from runners.view import console_on, data_report, decision_tables, nodes_table, runs_table, training_report
        from runners.why import spans_lines

        console = console_on(sys.stdout)
        console.print(runs_table([found]))
        console.print(nodes_table(nodes))
        tables = [*spans_lines(found), *leaderboard(searched, every=every_slice), *training_report(trained)]
        for part in [*tables, *data_report(data_decision, every=every_slice)]:
            console.print(part)
        if decision:
            console.print(*decision_tables(decision, every_slice=every_slice), sep="\n")
            for reason in decision.reasons:
                console.print(f"gate: {decision.outcome}: {reason}", markup=False, soft_wrap=True)
            for note in decision.notes:
                console.print(f"note: {note}", markup=False, soft_wrap=True)
        for line in _push_lines(push):
            console.print(line, markup=False, soft_wrap=True)
        if found.error:
            console.print(found.error, markup=False, soft_wrap=True)


@app.command()
def why(
    what: Annotated[
        str, typer.Argument(metavar="VERSION|RUN", help="A pushed version, a run's id, or latest.")
    ] = "latest",
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    every_slice: Annotated[bool, typer.Option("--all", help="Every slice of every gate.")] = False,
    payload: Annotated[str, typer.Option(help="saved_model, or tflite for the ladder of files alone.")] = "saved_model",
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a pull request.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say why a model was pushed or not: every gate, what blocked, what is nearest to failing, what would have to change."""
    with _errors(as_json, debug):
        from runners.view import console_on
        from runners.why import why as ask

        kind = _payload(payload)
        what, config = in_either_order(what, config)
        found = ask(_lineage(config, overrides), what, kind)
        if kind == "tflite":
            _print_ladder(found.edge(), found.push, as_json=as_json)
        elif as_json:
            _print_json(found.as_dict())
        elif markdown:
            typer.echo(found.markdown())
        else:
            found.print_on(console_on(sys.stdout), every_slice=every_slice)


Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or latest.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the lineage.")]
OnKubeflow = Annotated[
    bool, typer.Option("--kubeflow", help="Where the artifacts are: as a run on Kubeflow Pipelines.")
]


@app.command()
def approve(
    run_id: Run,
    by: By,
    reason: Reason,
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    kubeflow: OnKubeflow = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Approve a candidate that waits: it is pushed, and who, when and why stand in the lineage; 3 where the push is refused."""
    with _errors(as_json, debug):
        if kubeflow:
            raise typer.Exit(settle(config, overrides or [], "approve", run_id, by, reason, as_json=as_json))
        from runners.approval import approve_run

        decision, push = approve_run(config, overrides or [], run_id, by, reason)
        if as_json:
            _print_json({"decision": decision.model_dump(mode="json"), "push": push.model_dump(mode="json")})
        else:
            told = [f"{one.reason}\n  {one.destination}".rstrip() for one in (push, push.edge) if one]
            typer.echo(f"Approved by {by}. " + "\nDevices: ".join(told))
    raise typer.Exit(3 if push.blocked else 0)


@app.command()
def reject(
    run_id: Run,
    by: By,
    reason: Reason,
    config: Config = Path(_DEFAULT),
    overrides: Overrides = None,
    kubeflow: OnKubeflow = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Reject a candidate that waits: it is not pushed, and cannot be approved any more."""
    with _errors(as_json, debug):
        if kubeflow:
            raise typer.Exit(settle(config, overrides or [], "reject", run_id, by, reason, as_json=as_json))
        from runners.approval import reject_run

        decision = reject_run(config, overrides or [], run_id, by, reason)
        if as_json:
            _print_json({"decision": decision.model_dump(mode="json")})
        else:
            typer.echo(f"Rejected by {by}: nothing is pushed.")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A SavedModel directory, or a .tflite file.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="Show every tensor or variable.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a payload holds, without running it: signatures, tensors or variables, operators, sizes, digest."""
    with _errors(as_json, debug):
        from runners.inspection import lines
        from serving.inspect import inspect as look_into

        found = look_into(path)
        if as_json:
            _print_json(found.as_dict())
        else:
            typer.echo("\n".join(lines(found, tensors=tensors)))


@app.command()
def serve(  # noqa: PLR0913 - one argument for each option
    config: Config = Path(_DEFAULT),
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=-1, max=65535, help="0 takes a free one, -1 leaves gRPC out.")] = 8500,
    rest_port: Annotated[int, typer.Option(min=-1, max=65535, help="0 takes a free one, -1 leaves REST out.")] = 8501,
    strict: Annotated[bool, typer.Option("--strict", help="TF Serving's exact behaviour, hazards included.")] = False,
    models_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A models.config, read again when it changes, instead of CONFIG's."),
    ] = None,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Between two looks at the directories; 0 looks once. [default: 1, and 10 for a bucket]",
        ),
    ] = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Into which versions come from a bucket. [default: mirror below the pipeline root]"
        ),
    ] = None,
    load_retries: Annotated[
        int,
        typer.Option(min=0, help="With --strict: further attempts, a minute apart, at a version that does not load."),
    ] = 5,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Key of the server, for gRPC.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate of the server, for gRPC.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Clients must show a certificate signed by this one.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve the newest pushed version over TF Serving's gRPC and REST, until SIGTERM: requests that run may end.

    For development, CI and small production.
    """
    with _errors(as_json, debug):
        from runners.serving import BUCKET_POLL_S, ServeOptions, tls_files
        from runners.serving import serve as serve_models

        tls = tls_files(tls_key, tls_cert, client_ca)
        polls = (1.0, BUCKET_POLL_S) if poll is None else (poll, poll)
        options = ServeOptions(
            host, grpc_port, rest_port, strict, models_config, polls[0], tls, client_ca, load_retries, polls[1], mirror
        )
        serve_models(config, options, as_json=as_json)


@app.command()
def predict(  # noqa: PLR0913 - one argument for each option
    config: Annotated[Path, typer.Argument(help="The pipeline's configuration.")],
    file: Annotated[Path, typer.Argument(help="Rows: .csv with a header, .json with a list, or .jsonl.")],
    grpc: Annotated[bool, typer.Option("--grpc/--rest", help="How to ask.")] = False,
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the server. [default: this machine, 8500 or 8501]")
    ] = "",
    version: Annotated[int | None, typer.Option(min=0, help="[default: the newest]")] = None,
    label: Annotated[str | None, typer.Option(help="A label in the place of a version.")] = None,
    signature: Annotated[str, typer.Option(help="Its name.")] = "serving_default",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in each request.")] = 256,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0 for all.")] = 0,
    ca: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Who signed the server's certificate, for gRPC.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask a server for predictions of the rows of a file: CSV out, with --json one object a line."""
    with _errors(as_json, debug):
        from runners.serving import PredictOptions
        from runners.serving import predict as predict_rows

        protocol: Literal["grpc", "rest"] = "grpc" if grpc else "rest"
        options = PredictOptions(protocol, address, version, label, signature, batch_size, limit, ca)
        predict_rows(config, file, options, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine lacks, and the remedy."""
    from dataclasses import asdict

    from runners.doctor import checks

    found = checks()
    if as_json:
        _print_json([asdict(check) for check in found])
    else:
        for check in found:
            mark = "ok   " if check.ok else "LACKS"
            remedy = "" if check.ok else f". {check.remedy}"
            typer.echo(f"{mark}  {check.name}: {check.found} (needed: {check.needed}){remedy}")
    raise typer.Exit(0 if all(check.ok for check in found) else 1)


# --- what the commands share ------------------------------------------------------------------------------------------


def _run(config: Path, root: Path | None, options: Any, *, as_json: bool, verbose: bool, debug: bool) -> int:
    from rich.markup import escape

    from runners.leaderboard import leaderboard, search_of
    from runners.local.quiet import noise_to, without_empty
    from runners.run import begin, default_root
    from runners.run import run as run_pipeline
    from runners.view import ProgressView, SilentView, console_on, data_report, decision_tables, outcome_lines
    from schemas.load import load_config

    loaded = load_config(config, options.overrides)
    root = (root or default_root(loaded)).absolute()
    beginning = begin(loaded, root, options)
    run_id, options = beginning.run_id, beginning.options
    log = root / "logs" / run_id / "run.log"
    noise = noise_to(log if _can_make(log.parent) else None)
    # What lies in the folder of a run that is resumed may be of one that has not ended.
    tidy = contextlib.nullcontext() if options.resumed else without_empty(log)
    with _interruptible(options, log.parent), tidy, noise as screen:
        console = console_on(screen)
        if not as_json:
            place = escape(os.path.relpath(log.parent))
            note = f"\n{escape(beginning.note)}" if beginning.note else ""
            console.print(f"[bold]{loaded.config.name}[/]  run {run_id}  logs {place}{note}", soft_wrap=True)
        every_s = _VERBOSE_EVERY_S if verbose else _PLAIN_EVERY_S
        with SilentView() if as_json else ProgressView(console, log.parent, every_s) as view:
            result = run_pipeline(loaded, root, run_id, log, view, options)
        if as_json:
            screen.write(json.dumps(_run_json(result), indent=2) + "\n")
        else:
            searched = search_of(node.record for node in result.nodes)
            for part in [*data_report(result.data_decision), *leaderboard(searched)]:
                console.print(part)
            if result.decision:
                console.print(*decision_tables(result.decision), sep="\n")
            for line in outcome_lines(result, os.path.relpath(loaded.file)):
                console.print(line, soft_wrap=True)
    if debug:
        for node in result.nodes:
            typer.echo(node.traceback, err=True, nl=False)
    return result.exit_code


def _explain(config: Path, root: Path | None, options: Any, *, as_json: bool) -> int:
    from dataclasses import asdict

    from runners.local.quiet import noise_to
    from runners.run import begin, default_root
    from runners.run import explain as explain_run
    from runners.view import console_on, plan_table
    from schemas.load import load_config

    loaded = load_config(config, options.overrides)
    root = (root or default_root(loaded)).absolute()
    beginning = begin(loaded, root, options)
    with noise_to(None) as screen:
        plans = explain_run(loaded, root, beginning.run_id, beginning.options)
        if as_json:
            screen.write(json.dumps([asdict(plan) for plan in plans], indent=2) + "\n")
        else:
            console_on(screen).print(plan_table(plans))
    return 0


@contextlib.contextmanager
def _interruptible(options: Any, folder: Path) -> Iterator[None]:
    """Tells how a run that is interrupted goes on, or that it begins anew where nothing can be kept."""
    try:
        yield
    except KeyboardInterrupt:
        from runners.local.workers import has_begun

        if options.runner == "local" and has_begun(folder):
            said = f"Interrupted. What had finished is kept: `{options.command} --resume` goes on from there."
        else:
            said = f"Interrupted. `{options.command}` begins anew."
        typer.echo(said, err=True)
        raise


def _command(config: Path, overrides: list[str], root: Path | None, runner: str, accept: str) -> str:
    """What a person would type to run the same again."""
    program = os.path.relpath(sys.argv[0]) if sys.argv[0].endswith("satisfice") else "satisfice"
    words = [program, "run", str(config)]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--root", str(root)] if root else []
    words += ["--runner", runner] if runner != "local" else []
    words += ["--accept-without-champion", accept] if accept else []
    return shlex.join(words)


def _refuse_with_tfx_local(options: Any, *, explain: bool) -> None:
    """TFX's own runner has a cache of its own, and knows neither resuming nor explaining."""
    from schemas.errors import ConfigError, Fault

    given = {"--resume": options.resumed, "--from": bool(options.from_node), "--explain": explain}
    faults = [
        Fault(name, "is not available with --runner tfx-local", "--runner local") for name in given if given[name]
    ]
    if faults and options.runner == "tfx-local":
        raise ConfigError("command line", faults)


def _can_make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _search_lines(config: Any) -> list[str]:
    """What `validate` says of the search for hyperparameters; nothing where there is none."""
    if not config.training.searches:
        return []
    from components.trainer.strategy import find_machine
    from components.tuner.search import Sections, described

    return described(Sections(config.model, config.training, config.gates, config.export.tflite), find_machine())


def _run_json(result: Any) -> dict[str, Any]:
    from runners.leaderboard import search_of
    from runners.notes import note_of

    searched = search_of(node.record for node in result.nodes)
    return {
        "run": result.run_id,
        "outcome": result.outcome,
        "exit_code": result.exit_code,
        "nodes": [
            {
                "node": node.node,
                "state": node.state,
                "seconds": round(node.seconds, 3),
                "note": note_of(node.record),
                "reason": node.reason,
                "peak_memory_mb": node.peak_memory_mb,
                "progress": node.progress.as_dict() if node.progress else None,
                "cpu_s": node.cpu_s,
            }
            for node in result.nodes
        ],
        "tuning": searched.model_dump(mode="json") if searched else None,
        "data_decision": result.data_decision.model_dump(mode="json") if result.data_decision else None,
        "decision": result.decision.model_dump(mode="json") if result.decision else None,
        "push": result.push.model_dump(mode="json") if result.push else None,
        "error": result.error.as_dict() if result.error else None,
        "log": str(result.log),
    }


def _node_json(node: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(node), "seconds": round(node.seconds, 3)}


def _lineage(config: Path, overrides: list[str] | None) -> Any:
    from components.lineage.reader import Lineage
    from schemas.load import load_config

    # ML Metadata warns of what it raises as well; the error says it once.
    logging.getLogger("absl").setLevel(logging.ERROR)
    loaded = load_config(config, overrides or [])
    return Lineage(loaded.config.metadata, loaded.config.name)


def _runner(name: str) -> Literal["local", "tfx-local"]:
    if name == "local":
        return "local"
    if name == "tfx-local":
        return "tfx-local"
    from schemas.errors import ConfigError, Fault, close_match

    known = ["local", "tfx-local"]
    raise ConfigError(
        "command line", [Fault("--runner", "is not a runner", " or ".join(known), name, close_match(name, known))]
    )


def _push_lines(push: Any) -> list[str]:
    """What the Pusher did with each payload; nothing where it did not run."""
    done = {"pusher": push, "devices": push.edge if push else None}
    return [f"{name}: {one.outcome}: {one.reason}" for name, one in done.items() if one]


def _payload(name: str) -> Literal["saved_model", "tflite"]:
    if name == "saved_model":
        return "saved_model"
    if name == "tflite":
        return "tflite"
    from schemas.errors import ConfigError, Fault, close_match

    known = ["saved_model", "tflite"]
    fault = Fault("--payload", "is no kind of payload", " or ".join(known), name, close_match(name, known))
    raise ConfigError("command line", [fault])


def _print_ladder(edge: Any, push: Any, *, as_json: bool) -> None:
    """The `.tflite` files of a run: which one ships, and why the others do not."""
    from runners.ladder import ladder_lines, ladder_table
    from runners.view import console_on

    if as_json:
        pushed = push.edge.model_dump(mode="json") if push and push.edge else None
        _print_json({"edge": edge.model_dump(mode="json"), "push": pushed})
        return
    console = console_on(sys.stdout)
    console.print(ladder_table(edge))
    for line in ladder_lines(edge, push.edge if push else None):
        console.print(line, soft_wrap=True)


register(app)
register_schedule(app)
register_ci(app)
register_backfill(app)
app.add_typer(deployments, name="deploy")
register_kubeflow(app)

if __name__ == "__main__":
    main()
