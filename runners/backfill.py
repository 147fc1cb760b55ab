"""`satisfice backfill`: one run for each span of a range.

Each is a run like any other, whose window ends at its span; the champion is that of today. What an ended run came to is not
done again while its data, its configuration and the code are the same. A model of a later span stays where it serves: the
Pusher sees to that.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json
from schemas.errors import ConfigError, DataError, Fault, SatisficeError

__all__ = ["Backfill", "Done", "register", "spans_between"]

_SETTLED = ("pushed", "already_served", "blocked", "data_blocked", "pending", "rejected")

Root = Annotated[Path | None, typer.Option("--root", help="Pipeline root. [default: pipelines/NAME beside CONFIG]")]


@dataclass(frozen=True)
class Done:
    """What became of one span.

    Attributes:
        span: as a person writes it.
        state: `ran`; `known` where an earlier run had come to an end on the same data, code and configuration; `failed`;
            `no_data` where the range names a span that is not there.
        run: id of the run; "" where there is none.
        outcome: of the run, in a word; "" where there is none.
        seconds: that it took now.
        reason: why the model was not pushed, or what failed; "" where there is nothing to say.
    """

    span: str
    state: Literal["ran", "known", "failed", "no_data"]
    run: str = ""
    outcome: str = ""
    seconds: float = 0.0
    reason: str = ""


def spans_between(spans: Sequence[Any], first: int, last: int) -> tuple[list[Any], list[str]]:
    """The spans of a range, and the runs of numbers in it of which there are no data, as a person writes them.

    Args:
        spans: all that there are, ascending.
        first, last: numbers of the range, both in it.

    Raises:
        DataError: there is none in the range.
    """
    from components.example_gen.spans import name_like

    chosen = [span for span in spans if first <= span.number <= last]
    ends = [name_like(number, spans[0]) for number in (first, last)]
    if not chosen:
        raise DataError(
            f"the range from {ends[0]} to {ends[1]}",
            "has no data",
            expected=f"some of the {len(spans)} spans from {spans[0].name} to {spans[-1].name}",
            remedy="Give another range.",
        )
    missing, number = [], first
    for after in [*(span.number for span in chosen), last + 1]:
        if number < after:
            run = dict.fromkeys(name_like(one, spans[0]) for one in (number, after - 1))
            missing.append(" to ".join(run))
        number = after + 1
    return chosen, missing


class Backfill:
    """The runs of a range of spans.

    Args:
        config: the configuration's file.
        overrides: as `--set` takes them.
        root: pipeline root; None for the default.
    """

    def __init__(self, config: Path, overrides: Sequence[str], root: Path | None) -> None:
        self._config, self._overrides, self._given_root = config, tuple(overrides), root

    def plan(self, first: str, last: str) -> tuple[list[Any], list[str]]:
        """The spans that are to be run, ascending, and those that are missing; see `spans_between`.

        Args:
            first, last: spans as a person writes them; "" for the last one is the newest.

        Raises:
            ConfigError: the path has no spans, or one of the two is none.
            DataError: there are no spans in the range.
        """
        from components.example_gen.spans import find_spans
        from schemas.load import load_config
        from schemas.source_path import uses_spans

        source = load_config(self._config, self._overrides).config.data.source
        if not uses_spans(source.path):
            expected = "{SPAN}, or {YYYY}, {MM} and {DD}, in it"
            raise ConfigError(str(self._config), [Fault("data.source.path", "has no spans", expected, source.path)])
        ends = {"--from": first, "--to": last}
        given = {name: text for name, text in ends.items() if text or name == "--from"}
        numbers = {name: _number(name, text, source.path) for name, text in given.items()}
        spans = find_spans(source.path)
        last_number = numbers.get("--to", spans[-1].number)
        if last_number < numbers["--from"]:
            newest = f"{last or spans[-1].name}"
            fault = Fault("--from", "is after the end of the range", f"a span up to {newest}", first)
            raise ConfigError("command line", [fault])
        return spans_between(spans, numbers["--from"], last_number)

    def run(self, spans: Sequence[Any], *, quiet: bool) -> Iterator[Done]:
        """One run for each span, in their order, up to the first that fails.

        Args:
            spans: of the source.
            quiet: writes nothing while it goes on.
        """
        for span in spans:
            done = self._run_one(span.name, quiet=quiet)
            yield done
            if done.state == "failed":
                return

    def command_from(self, span: str, last: str) -> str:
        """What goes on from a span that failed."""
        program = os.path.relpath(sys.argv[0]) if sys.argv[0].endswith("satisfice") else "satisfice"
        words = [program, "backfill", str(self._config), "--from", span, *(["--to", last] if last else [])]
        words += [word for override in self._overrides for word in ("--set", override)]
        words += ["--root", str(self._given_root)] if self._given_root else []
        return shlex.join(words)

    def _run_one(self, span: str, *, quiet: bool) -> Done:
        from runners.run import default_root
        from schemas.load import load_config

        overrides = (*self._overrides, f"data.source.span={span!r}")
        loaded = load_config(self._config, overrides)
        root = (self._given_root or default_root(loaded)).absolute()
        started = time.monotonic()
        try:
            known = _known(loaded, root)
            if known is not None:
                return Done(span, "known", known.run_id, known.outcome)
            result = _run(loaded, root, overrides, self._command(overrides), quiet=quiet)
        except SatisficeError as error:
            return Done(span, "failed", seconds=round(time.monotonic() - started, 3), reason=str(error))
        state: Literal["ran", "failed"] = "failed" if result.outcome == "failed" else "ran"
        seconds = round(time.monotonic() - started, 3)
        return Done(span, state, result.run_id, result.outcome, seconds, _reason(result))

    def _command(self, overrides: Sequence[str]) -> str:
        words = [word for override in overrides for word in ("--set", override)]
        words += ["--root", str(self._given_root)] if self._given_root else []
        return shlex.join(["satisfice", "run", str(self._config), *words])


def _number(name: str, text: str, path: str) -> int:
    from schemas.source_path import SpanPath, parse_span

    try:
        return parse_span(text, dates=SpanPath.parse(path).has_dates)
    except ValueError as error:
        problem, expected = error.args
        raise ConfigError("command line", [Fault(name, problem, expected, text)]) from error


def _known(loaded: Any, root: Path) -> Any | None:
    """The newest run that came to an end on the same data, code and configuration; None where there is none."""
    from components.example_gen.fingerprint import identity_of
    from components.lineage.reader import Lineage
    from components.lineage.store import open_store
    from pipeline.user_module import locate_user_module
    from runners.local.session import made_of, was_made_of

    lineage = Lineage(loaded.config.metadata, loaded.config.name, open_store(loaded.config.metadata))
    ended = [
        run for run in lineage.runs() if run.config_digest == loaded.digest and run.outcome in _SETTLED and run.spans
    ]
    if not ended:
        return None
    made = made_of(loaded, locate_user_module(loaded.config.model.module, loaded.folder), root)
    data = identity_of(loaded.config.data.source)
    for run in ended:
        if was_made_of(root, run.run_id) == made and lineage.data_of(run.run_id) == data["input_fingerprint"]:
            return run if run.spans == data["spans"] else None
    return None


def _run(loaded: Any, root: Path, overrides: tuple[str, ...], command: str, *, quiet: bool) -> Any:
    from runners.local.quiet import noise_to, without_empty
    from runners.run import Options, new_run_id, run
    from runners.view import ProgressView, SilentView, console_on

    run_id = new_run_id()
    log = root / "logs" / run_id / "run.log"
    with without_empty(log), noise_to(log) as screen:
        console = console_on(screen)
        if not quiet:
            span = loaded.config.data.source.span
            console.print(f"[bold]{loaded.config.name}[/]  span {span}  run {run_id}", soft_wrap=True)
        with SilentView() if quiet else ProgressView(console, log.parent) as view:
            return run(loaded, root, run_id, log, view, Options(overrides=overrides, command=command))


def _reason(result: Any) -> str:
    """Why a model is not served after its run; "" where it is."""
    if result.outcome == "failed":
        return str(result.error or "")
    if result.outcome == "data_blocked":
        return str(result.data_decision.reasons[0]) if result.data_decision.reasons else ""
    return str(result.push.reason) if result.push is not None and result.push.blocked else ""


# --- the command ------------------------------------------------------------------------------------------------------


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(backfill)


def backfill(
    first: Annotated[str, typer.Option("--from", metavar="N|DATE", help="The first span.")],
    config: Config = Path(DEFAULT),
    last: Annotated[str, typer.Option("--to", metavar="N|DATE", help="The last span. [default: the newest]")] = "",
    overrides: Overrides = None,
    root: Root = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the pipeline once for each span of a range, in ascending order, each window ending at its span.

    A block stops nothing; a failure does, and the command that goes on is told. Exit code 0, or 1 where a run failed.
    """
    with errors(as_json, debug):
        work = Backfill(config, overrides or [], root)
        spans, missing = work.plan(first, last)
        done = list(work.run(spans, quiet=as_json))
        failed = next((one for one in done if one.state == "failed"), None)
        on = work.command_from(failed.span, last) if failed else ""
        gone = [Done(span, "no_data") for span in missing]
        if as_json:
            left = [span.name for span in spans[len(done) :]]
            print_json({"spans": [asdict(one) for one in [*done, *gone]], "left": left, "to_go_on": on})
        else:
            _print(done, gone, len(spans), on)
    raise typer.Exit(1 if failed else 0)


def _print(done: Sequence[Done], gone: Sequence[Done], of: int, on: str) -> None:
    from runners.view import backfill_table, console_on

    console = console_on(sys.stdout)
    console.print(backfill_table([*done, *gone]))
    if on:
        console.print(f"Stopped after {len(done)} of {of} spans. Next: {on}", markup=False, soft_wrap=True)
