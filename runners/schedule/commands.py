"""The commands `watch`, `decisions` and `schedule`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json
from runners.kubeflow.commands import Values, repeat
from schemas.errors import ConfigError, Fault
from schemas.tick import Looked, Tick

__all__ = ["register"]

Root = Annotated[Path | None, typer.Option("--root", help="Pipeline root. [default: pipelines/NAME beside CONFIG]")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    for command in (watch, decisions, schedule):
        app.command()(command)


def watch(
    config: Config = Path(DEFAULT),
    overrides: Overrides = None,
    root: Root = None,
    once: Annotated[bool, typer.Option("--once", help="One tick, for cron or a timer.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what a tick would decide; record and run nothing.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Retrain when the triggers of the section `schedule` ask for it; record every decision, also not to.

    Until SIGTERM; with --once the exit code is that of the run, 0 where none began, 1 where the data cannot be read.
    """
    with errors(as_json, debug):
        from runners.run import default_root
        from runners.schedule.watch import Watch, exit_code_of
        from schemas.load import load_config

        logging.getLogger("absl").setLevel(logging.ERROR)
        loaded = load_config(config, overrides or [])
        watched = Watch(loaded, (root or default_root(loaded)).absolute(), tuple(overrides or ()))

        def tell(tick: Tick) -> None:
            typer.echo(json.dumps(tick.model_dump(mode="json")) if as_json else line_of(tick))
            sys.stdout.flush()

        if explain:
            tick = watched.explain()
            if as_json:
                print_json(tick.model_dump(mode="json"))
            else:
                typer.echo("\n".join([f"would say: {tick.decision.verdict}", *_details(tick)]))
            code = 1 if tick.looked.problem else 0
        elif once:
            code = exit_code_of(watched.once(tell))
        else:
            watched.forever(tell)
            code = 0
    raise typer.Exit(code)


def decisions(
    config: Config = Path(DEFAULT),
    overrides: Overrides = None,
    limit: Annotated[int, typer.Option(min=0, help="So many of the newest; 0 for all.")] = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what the ticks of the schedule decided, and why, the newest first."""
    with errors(as_json, debug):
        from components.lineage.store import open_store
        from components.lineage.ticks import ticks
        from schemas.load import load_config

        logging.getLogger("absl").setLevel(logging.ERROR)
        loaded = load_config(config, overrides or []).config
        found = ticks(open_store(loaded.metadata, read_only=True), loaded.name)
        shown = found[:limit] if limit else found
        if as_json:
            print_json([tick.model_dump(mode="json") for tick in shown])
        elif not found:
            typer.echo("No ticks yet: `satisfice watch` makes them.")
        else:
            for tick in shown:
                typer.echo(line_of(tick))


def schedule(  # noqa: PLR0913 - an option each
    config: Config = Path(DEFAULT),
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Where the files go. [default: systemd, or kubernetes]"),
    ] = None,
    cronjob: Annotated[
        bool, typer.Option("--cronjob", help="As a CronJob of Kubernetes instead, by the section kubeflow.")
    ] = False,
    kubeflow: Annotated[
        bool, typer.Option("--kubeflow", help="As a recurring run of Kubeflow Pipelines instead; needs --cron.")
    ] = False,
    cron: Annotated[
        str,
        typer.Option(
            metavar="EXPRESSION",
            help="With --kubeflow: seconds minutes hours day month weekday; with --cronjob: without seconds.",
        ),
    ] = "",
    values: Values = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="With --kubeflow: run what was missed while it was paused.")
    ] = False,
    overrides: Overrides = None,
    root: Root = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a systemd service and timer that tick as `satisfice watch` does, without a process that stays.

    With --cronjob, a CronJob of Kubernetes that does. With --kubeflow, have Kubeflow Pipelines run the pipeline by the
    clock; what was scheduled there before is replaced.
    """
    with errors(as_json, debug):
        elsewhere = "--kubeflow" if kubeflow else "--cronjob"
        if (kubeflow or cronjob) and root is not None:
            problem = "lies on the volume of kubeflow.volume"
            raise ConfigError("command line", [Fault("--root", problem, f"no --root beside {elsewhere}")])
        if kubeflow and cronjob:
            raise ConfigError("command line", [Fault("--cronjob", "is given beside --kubeflow", "one of them")])
        if kubeflow:
            repeat(config, overrides or [], cron, values or [], catch_up=catch_up, as_json=as_json)
            return
        _refuse_others({"--value": values, "--catch-up": catch_up}, {} if cronjob else {"--cron": cron})
        folder = output or Path("kubernetes" if cronjob else "systemd")
        files, then = _cronjob(config, overrides, cron, folder) if cronjob else _units(config, overrides, root, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        if as_json:
            print_json({"folder": str(folder.absolute()), "files": sorted(files)})
        else:
            for name in files:
                typer.echo(f"written  {folder / name}")
            typer.echo(f"Next: {then}")


def _units(config: Path, overrides: list[str] | None, root: Path | None, folder: Path) -> tuple[dict[str, str], str]:
    """The files for systemd, and how they are put to use."""
    from runners.run import default_root
    from runners.schedule.systemd import units
    from runners.schedule.watch import Watch
    from schemas.load import load_config

    loaded = load_config(config, overrides or [])
    watched = Watch(loaded, (root or default_root(loaded)).absolute())
    words = [sys.executable, "-P", "-m", "runners.cli", "watch", str(loaded.file), "--once"]
    words += ["--root", str(watched.root)]
    words += [word for override in overrides or () for word in ("--set", override)]
    files = units(loaded.config.name, watched.schedule, words, loaded.folder)
    timer = next(name for name in files if name.endswith(".timer"))
    return files, f"cp {folder}/* ~/.config/systemd/user/ && systemctl --user enable --now {timer}"


def _cronjob(config: Path, overrides: list[str] | None, cron: str, folder: Path) -> tuple[dict[str, str], str]:
    """The file for Kubernetes, and how it is put to use."""
    from runners.run import default_root
    from runners.schedule.cronjob import cronjob
    from runners.schedule.watch import Watch
    from schemas.load import load_config

    loaded = load_config(config, overrides or [])
    Watch(loaded, default_root(loaded).absolute())  # finds what is wrong with the section
    files = {"cronjob.yaml": cronjob(loaded, cron, tuple(overrides or ()))}
    return files, f"kubectl apply -f {folder}/cronjob.yaml"


def _refuse_others(of_kubeflow: dict[str, object], of_both: dict[str, object]) -> None:
    remedy = "beside it; what `satisfice watch` goes by stands in the section schedule"
    faults = [
        Fault(name, f"is for {whose} alone", f"{whose} {remedy}")
        for whose, options in (("--kubeflow", of_kubeflow), ("--kubeflow or --cronjob", of_both))
        for name, value in options.items()
        if value
    ]
    if faults:
        raise ConfigError("command line", faults)


def line_of(tick: Tick) -> str:
    """A tick in one line: when, what was decided and why, and what came of it."""
    what = f"{tick.looked.at:%Y-%m-%d %H:%M:%S} UTC  {tick.decision.verdict}"
    if not tick.decision.retrain:
        return what
    if not tick.ended:
        return f"{what}; its run has not ended"
    return f"{what}; run {tick.run or '(none)'}: {tick.outcome} (exit code {tick.exit_code})"


def _details(tick: Tick) -> list[str]:
    looked = tick.looked
    served = f"version {looked.champion}" if looked.champion is not None else "nothing"
    data = f"{looked.files} files, fingerprint {looked.data[:12]}" if looked.data else "not looked at"
    rows = f", {looked.rows:,} rows" if looked.rows is not None else ""
    found = [f"  data: {data}{rows}", *_spans(looked), f"  served: {served}"]
    found += [f"  {reason}" for reason in tick.decision.reasons]
    return found


def _spans(looked: Looked) -> list[str]:
    """What there is to say of a source's spans."""
    if not looked.spans:
        return []
    first, last = looked.spans[0][0], looked.spans[-1][0]
    missing = f"; no data of {', '.join(looked.missing)}" if looked.missing else ""
    return [f"  spans: {first} to {last}{missing}", *(f"  {one.told}" for one in looked.arrivals if not one.asks)]
