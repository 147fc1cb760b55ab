"""What a person sees: a line per node, the gate table, the list of runs. Plain text where the output is no terminal."""

from __future__ import annotations

import datetime
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from components.gate.words import change_needed, is_upper, where
from components.lineage.reader import NodeRecord, RunRecord
from components.progress import CHANNEL_SUFFIX, Progress, read
from components.trainer.strategy import plan_line
from runners.ladder import ladder_lines, ladder_table
from runners.notes import note_of
from schemas.decision import Comparison, DataDecision, Decision, GateResult, PushResult

__all__ = [
    "ProgressView",
    "backfill_table",
    "console_on",
    "data_report",
    "data_table",
    "decision_tables",
    "drift_lines",
    "drift_table",
    "gate_table",
    "history_table",
    "nodes_table",
    "outcome_lines",
    "plan_table",
    "running_line",
    "runs_table",
    "training_report",
    "versions_table",
]

_MARKS = {
    "ran": "[green]✓[/]",
    "cached": "[cyan]=[/]",
    "kept": "[cyan]=[/]",
    "skipped": "[yellow]-[/]",
    "failed": "[red]✗[/]",
}
_VERDICT_STYLES = {"pass": "green", "fail": "red", "inconclusive": "red", "not_measured": "red"}
_ANOMALIES_SHOWN = 20
_CHANGES_SHOWN = 5
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REFRESHED_PER_S = 8
_SILENT_S = 10.0
_WHOLE_FROM = 10
"""Rates from here on are told without decimals."""


def console_on(stream: TextIO) -> Console:
    """A console on a stream: colours on a terminal; elsewhere plain text that is not cut at 80 columns."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 160)


class ProgressView:
    """One line per node, written when it ends. While nodes run, a terminal has a living line for each.

    Elsewhere a plain line tells of each running node now and then. A context manager: what it began ends with it.
    """

    def __init__(self, console: Console, channels: Path | None = None, every_s: float = 30.0) -> None:
        """Makes the view.

        Args:
            console: to write on.
            channels: folder in which the nodes report how far they are; None where they do not.
            every_s: pause between two plain lines of a node, where the console is no terminal.
        """
        self._console = console
        self._channels = channels
        self._every_s = every_s
        self._running: dict[str, float] = {}
        self._live: Live | None = None
        self._ended = threading.Event()
        self._teller: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Nothing is shown before a node starts."""
        if not self._console.is_terminal:
            self._teller = threading.Thread(target=self._tell, daemon=True)
            self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the living lines away."""
        self._running.clear()
        self._stop_live()
        self._ended.set()
        if self._teller is not None:
            self._teller.join()

    def node_started(self, node: str) -> None:
        """Begins the node's living line."""
        self._running[node] = time.monotonic()
        if self._console.is_terminal and self._live is None:
            self._live = Live(
                get_renderable=self._lines,
                console=self._console,
                refresh_per_second=_REFRESHED_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def node_ended(self, result: Any) -> None:
        """Writes the node's line; `result` is a `runners.local.engine.NodeResult`."""
        self._running.pop(result.node, None)
        if not self._running:
            self._stop_live()
        why = " ".join(result.reason.split())
        if result.state not in ("skipped", "failed"):
            why = "; ".join(part for part in (note_of(result.record), why if result.state == "ran" else "") if part)
        mark = _MARKS.get(result.state, " ")
        rate = _rate(result.progress.per_second, result.progress.unit) if result.progress else ""
        line = f"{mark} {result.node:<16} {result.state:<8} {result.seconds:6.1f} s {rate:>17}  {escape(why)}"
        self._console.print(line.rstrip(), soft_wrap=True)

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tell(self) -> None:
        while not self._ended.wait(self._every_s):
            for line in self._texts():
                self._console.print(f"… {line}", markup=False, soft_wrap=True)

    def _lines(self) -> Group:
        """A line for each node, cut at the edge of the terminal, behind a spinner that all share."""
        frame = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
        texts = [Text(f"{frame} {text}", no_wrap=True, overflow="ellipsis", style="cyan") for text in self._texts()]
        return Group(*texts)

    def _texts(self) -> list[str]:
        now = time.monotonic()
        return [
            running_line(
                node, now - started, read(self._channels / f"{node}{CHANNEL_SUFFIX}") if self._channels else None
            )
            for node, started in list(self._running.items())
        ]


def running_line(node: str, seconds: float, progress: Progress | None, now: float | None = None) -> str:
    """How far a running node is, in one line, what matters most first.

    Args:
        node: its id.
        seconds: since it began.
        progress: what it reported last; None where it has not reported.
        now: in seconds since the epoch; None for the clock's.
    """
    parts = [f"{node:<16} {seconds:6.1f} s"]
    if progress is not None and progress.done:
        silent_s = max(0.0, (time.time() if now is None else now) - progress.at)
        about = "about " if progress.estimated else ""
        of = f" of {about}{progress.total:,}" if progress.total and progress.total >= progress.done else ""
        parts.append(_rate(progress.pace or progress.per_second, progress.unit))
        if silent_s >= _SILENT_S:
            parts.append(f"no news for {silent_s:.0f} s")
        elif progress.left_s:
            most = "at most " if progress.may_end_early else about
            parts.append(f"{most}{_clock(max(0.0, progress.left_s - silent_s))} left")
        parts.append(f"{progress.done:,}{of} {progress.unit}")
    if progress is not None:
        parts += [progress.phase] if progress.phase else []
        parts += [f"{name} {value:.4g}" for name, value in progress.figures.items()]
    return "  ".join(parts)


def _rate(per_second: float | None, unit: str) -> str:
    if per_second is None:
        return ""
    return f"{per_second:,.0f} {unit}/s" if per_second >= _WHOLE_FROM else f"{per_second:.1f} {unit}/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class SilentView:
    """Says nothing, for `--json`."""

    def __enter__(self) -> Self:
        """Says nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Says nothing."""

    def node_started(self, node: str) -> None:
        """Says nothing."""

    def node_ended(self, result: Any) -> None:
        """Says nothing."""


def gate_table(decision: Decision, *, every_slice: bool = False) -> Table:
    """The verdicts, those that block first, then those nearest to failing.

    Args:
        decision: of the Gate.
        every_slice: shows each slice of a sliced gate; else what blocks and the slice nearest to failing.
    """
    table = Table(title="Gates", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "metric", "where"):
        table.add_column(name)
    for name in ("value", "limit", "margin", "champion", "95 %", "n"):
        table.add_column(name, justify="right")
    table.add_column("gate")
    shown, more = _pick(decision.gates, every_slice)
    for result in shown:
        style = _VERDICT_STYLES.get(result.verdict, "yellow")
        others = more.get(result.gate, []) if result is _first_of(shown, result.gate) else []
        table.add_row(
            f"[{style}]{result.verdict}[/]",
            result.metric,
            escape(where(result) + _others(others)),
            _number(result.value, unit=result.unit),
            _limit(result),
            _number(result.margin, signed=True),
            _number(result.champion, unit=result.unit),
            f"{_number(result.interval[0])}..{_number(result.interval[1])}" if result.interval else "",
            "" if result.n is None else f"{result.n:,}",
            result.gate,
        )
    return table


def decision_tables(decision: Decision, *, every_slice: bool = False) -> list[Table]:
    """The gates on the SavedModel, and the ladder of files for devices where there is one."""
    ladder = [ladder_table(decision.edge)] if decision.edge else []
    return [gate_table(decision, every_slice=every_slice), *ladder]


def outcome_lines(result: Any, config_file: str) -> list[str]:
    """What came out, and what to do next, as marked-up lines; `result` is a `runners.run.RunResult`."""
    edge = result.decision.edge if result.decision else None
    files = ladder_lines(edge, result.push.edge if result.push else None) if edge else []
    return [*_served_lines(result, config_file), *files]


def _served_lines(result: Any, config_file: str) -> list[str]:
    """What became of the SavedModel."""
    decision, push = result.decision, result.push
    if result.outcome == "failed":
        return [f"[red]Failed:[/] {escape(str(result.error))}"]
    if result.outcome == "data_blocked":
        return [
            "[red]Blocked by the data gate:[/] nothing was trained, nothing was pushed.",
            *(f"  {escape(reason)}" for reason in result.data_decision.reasons[:_ANOMALIES_SHOWN]),
            _next_after_data(result.data_decision),
        ]
    if result.outcome == "blocked":
        done = "what was published was withdrawn" if push is not None and push.withdrawn else "nothing was pushed"
        return [f"[red]Blocked:[/] {done}.", *_why_blocked(decision, push, config_file)]
    if result.outcome == "pending":
        return [
            "[yellow]Waits for approval:[/] every gate admits it; nothing is pushed until a person approves.",
            *(escape(f"Note: {note}.") for note in decision.notes),
            escape(f"Next: satisfice approve {result.run_id} {config_file} --by NAME --reason WHY   (or reject)"),
        ]
    if result.outcome == "already_served":
        served = f"[green]Already served[/] as version {push.version}: nothing was pushed."
        return [served, f"  {escape(push.destination)}"]
    lines = [f"[green]Pushed version {push.version}.[/]", f"  {escape(push.destination)}"]
    lines += [f"  {escape(one.told)}" for one in push.confirmations]
    lines += [f"[yellow]Warning:[/] {escape(warning)}" for warning in push.warnings]
    return [*lines, *(escape(f"Note: {note}.") for note in decision.notes), escape(_next_after(push))]


def _why_blocked(decision: Decision, push: PushResult | None, config_file: str) -> list[str]:
    if push is not None and push.outcome != "not_pushed":
        return [f"  {escape(push.reason)}", *(f"  {escape(f'Warning: {one}')}" for one in push.warnings)]
    return [
        *(f"  {escape(reason)}" for reason in decision.reasons),
        *(escape(f"  To pass: {change}.") for change in map(change_needed, decision.gates[:_CHANGES_SHOWN]) if change),
        *(escape(f"Note: {note}.") for note in decision.notes),
        f"Next: improve the model, or change the gate in {escape(config_file)} if its limit is wrong.",
    ]


def _next_after_data(decision: DataDecision) -> str:
    blocking = [one for one in decision.comparisons if one.deviates and one.severity == "block"]
    ways = [
        f"raise the limit in data.validate.{kind} (or set data.validate.on_{kind}: warn)"
        for kind in sorted({one.kind for one in blocking})
    ]
    if any(one.severity == "block" for one in decision.anomalies):
        ways.insert(0, "widen the schema (or set data.validate.anomalies: warn)")
    right = " and ".join(ways) or "set data.validate.on_no_baseline: warn"
    return f"Next: mend the data, or, where the data is right, {right}, and run again."


def data_report(decision: DataDecision | None, *, every: bool = False) -> list[Any]:
    """What to print of the data gate's decision: tables and lines; nothing where there is nothing to say."""
    if decision is None:
        return []
    parts: list[Any] = [data_table(decision)] if decision.anomalies else []
    table = drift_table(decision, every=every)
    parts += [table] if table.row_count else []
    return [*parts, *drift_lines(decision)]


def _next_after(push: PushResult) -> str:
    base = push.destination.rsplit("/", 1)[0]
    name = base.rsplit("/", 1)[-1]
    return f"Next: point TF Serving at it: tensorflow_model_server --model_name={name} --model_base_path={base}"


def training_report(record: Mapping[str, Any]) -> list[Any]:
    """How a model was trained, as far as its record says so."""
    lines = [f"training: {plan_line(record['plan'])}"] if "plan" in record else []
    lines += _beginning(record)
    rates = record.get("rates") or []
    if rates:
        fastest, last = max(one["examples_per_s"] for one in rates), rates[-1]["examples_per_s"]
        lines.append(f"  examples/s: {last:,.0f} in the last epoch, {fastest:,.0f} in the fastest of {len(rates)}")
    busy = {name: share for name, share in record.get("cpu_utilisation", {}).items() if share is not None}
    if busy:
        told = ", ".join(f"{name} {share:.2f}" for name, share in busy.items())
        lines.append(f"  processor seconds per second of training: {told}")
    return [Text(line) for line in lines]


def _beginning(record: Mapping[str, Any]) -> list[str]:
    """From what the training began."""
    lines = []
    warm = record.get("warm_start") or {}
    if "cold_start_because" in warm:
        lines.append(f"  cold start because {warm['cold_start_because']}")
    elif warm:
        lines.append(f"  warm start from the champion {warm['champion'][:12]}: {warm['variables']} variables")
    lines += [f"  {sentence}" for sentence in warm.get("vocabularies", [])]
    if "resumed_at_epoch" in record:
        step = f" and {record['resumed_at_step']:,} steps" if record.get("resumed_at_step") else ""
        lines.append(f"  taken up again after {record['resumed_at_epoch']} epochs{step}")
    return lines


def data_table(decision: DataDecision) -> Table:
    """The anomalies that the data gate found."""
    table = Table(title="Data", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("severity", "feature", "split", "anomaly", "what"):
        table.add_column(name)
    for anomaly in decision.anomalies[:_ANOMALIES_SHOWN]:
        style = "red" if anomaly.severity == "block" else "yellow"
        table.add_row(
            f"[{style}]{anomaly.severity}[/]",
            escape(anomaly.feature or "(data set)"),
            anomaly.split,
            anomaly.kind,
            escape(anomaly.reason),
        )
    return table


def drift_table(decision: DataDecision, *, every: bool = False) -> Table:
    """How far the data are from other data.

    Args:
        decision: of the data gate.
        every: shows each comparison; else what deviates, and what is nearest to its limit.
    """
    table = Table(title="Drift and skew", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "feature", "split", "measure"):
        table.add_column(name)
    for name in ("value", "limit"):
        table.add_column(name, justify="right")
    table.add_column("against")
    table.add_column("then")
    passed = [one for one in decision.comparisons if one.verdict == "pass"]
    shown = [one for one in decision.comparisons if one.deviates]
    for one in decision.comparisons if every else [*shown[:_ANOMALIES_SHOWN], *passed[:1]]:
        table.add_row(
            _verdict_of(one),
            escape(one.feature),
            one.split,
            one.measure,
            _number(one.value),
            f"≤ {_number(one.limit)}",
            one.against,
            one.severity if one.deviates else "",
        )
    return table


def drift_lines(decision: DataDecision) -> list[str]:
    """What the table does not tell, as marked-up lines: what was not judged, and how many limits are met."""
    lines = []
    baseline, total = decision.baseline, len(decision.comparisons)
    unjudged = [one.feature for one in decision.comparisons if one.verdict == "no_baseline"]
    few = sorted({one.feature for one in decision.comparisons if one.verdict == "too_few_examples"})
    if unjudged:
        why = baseline.reason if baseline and not baseline.found else f"not in the baseline: {', '.join(unjudged)}"
        lines.append(f"[yellow]NO_BASELINE[/]: {len(unjudged)} of {total} limits were not judged: {escape(why)}.")
    if few:
        lines.append(f"Too few values to judge: {escape(', '.join(few))}.")
    if len(unjudged) < total:
        met = sum(one.verdict == "pass" for one in decision.comparisons)
        same = f" ({baseline.reason})" if baseline and baseline.same_data else ""
        lines.append(f"{met} of {total} limits on drift and skew are met{same}.")
    if decision.retrain:
        lines.append("Drift asks for a new model (data.validate.on_drift: retrain).")
    return lines


def _verdict_of(one: Comparison) -> str:
    style = "green" if one.verdict == "pass" else "red" if one.deviates and one.severity == "block" else "yellow"
    return f"[{style}]{one.verdict}[/]"


def plan_table(plans: Iterable[Any]) -> Table:
    """What would run, and why; `plans` are `runners.local.engine.Plan`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "would", "because"):
        table.add_column(name)
    for plan in plans:
        table.add_row(plan.node, plan.action, escape(plan.reason))
    return table


def runs_table(runs: Iterable[RunRecord]) -> Table:
    """One row per run, the newest first."""
    listed = list(runs)
    of_spans = any(run.spans for run in listed)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "began", "seconds", "outcome", "exit", "runner", "by", *(["spans"] if of_spans else [])):
        table.add_column(name, justify="right" if name in ("seconds", "exit") else "left")
    for run in listed:
        table.add_row(
            run.run_id,
            _when(run.started_ms),
            f"{run.seconds:.1f}" if run.exit_code is not None else "",
            run.outcome,
            "" if run.exit_code is None else str(run.exit_code),
            run.runner,
            f"{run.user}@{run.host}",
            *([_spans_of(run)] if of_spans else []),
        )
    return table


def backfill_table(spans: Iterable[Any]) -> Table:
    """What became of each span; `spans` are `runners.backfill.Done`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("span", "run", "outcome", "seconds", "why"):
        table.add_column(name, justify="right" if name == "seconds" else "left", no_wrap=name in ("span", "run"))
    words = {"known": "skipped: the same data, code and configuration", "no_data": "no data arrived", "ran": ""}
    for one in spans:
        why = one.reason or words.get(one.state, "")
        seconds = f"{one.seconds:.1f}" if one.run and one.state != "known" else ""
        table.add_row(one.span, one.run, (one.outcome or one.state).replace("_", " "), seconds, escape(why))
    return table


def _spans_of(run: RunRecord) -> str:
    names = run.spans.split(", ")
    told = run.spans if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"
    return f"{told}, {run.missing_spans} missing" if run.missing_spans else told


def nodes_table(nodes: Sequence[NodeRecord]) -> Table:
    """What each node of a run did, and where its outputs are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "state", "seconds", "rate", "outputs"):
        table.add_column(name, justify="right" if name in ("seconds", "rate") else "left")
    for node in nodes:
        outputs = node.reason or ", ".join(f"{output.key} #{output.id}" for output in node.outputs)
        rate = _rate(node.progress["per_second"], node.progress["unit"]) if node.progress else ""
        table.add_row(node.node, node.state, f"{node.seconds:.1f}" if node.started_ms else "", rate, escape(outputs))
    return table


def versions_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One row per version, as `satisfice versions --json` lists them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("version", "digest", "published", "MB", "marks", "from"):
        table.add_column(name, justify="right" if name in ("version", "MB") else "left")
    for row in rows:
        marks = [*(["newest"] if row["newest"] else []), *(["pinned"] if row["pinned"] else []), *row["labels"]]
        back = f"rollback to {row['rollback_to']}: {row['reason']}" if row["rollback_to"] is not None else ""
        published = row["published_at"]
        table.add_row(
            str(row["version"]),
            row["digest"][:12] or "(not ours)",
            f"{datetime.datetime.fromisoformat(published):%Y-%m-%d %H:%M:%S} UTC" if published else "",
            "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.2f}",
            escape(", ".join(marks)),
            escape(back or (f"run {row['run']}" if row["run"] else "")),
        )
    return table


def history_table(happenings: Iterable[Any]) -> Table:
    """One row per `components.lineage.history.Happening`, the oldest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("when", "what", "version", "digest", "by", "why"):
        table.add_column(name, justify="right" if name == "version" else "left")
    for one in happenings:
        what = one.kind.replace("_", " ") + (f" {one.label}" if one.label else "")
        back = f" to {one.to_version}" if one.kind == "rollback" else ""
        unknown = "" if one.known_to == "lineage" else " (known to the base path alone)"
        table.add_row(
            f"{one.at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC",
            escape(what + back),
            "" if one.version is None else str(one.version),
            one.digest[:12],
            escape(one.by or "?"),
            escape(one.why + unknown),
        )
    return table


def _others(results: Sequence[GateResult]) -> str:
    """The slices of a gate that have no line of their own, counted by verdict."""
    counts = Counter(result.verdict.replace("_", " ") for result in results)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f" (+ {told})" if told else ""


def _pick(results: Sequence[GateResult], every_slice: bool) -> tuple[list[GateResult], dict[str, list[GateResult]]]:
    if every_slice:
        return list(results), {}
    shown: list[GateResult] = []
    more: dict[str, list[GateResult]] = {}
    for result in results:
        if result.blocks or _first_of(shown, result.gate) is None:
            shown.append(result)
        else:
            more.setdefault(result.gate, []).append(result)
    return shown, more


def _first_of(results: Sequence[GateResult], gate: str) -> GateResult | None:
    return next((result for result in results if result.gate == gate), None)


def _limit(result: GateResult) -> str:
    if result.limit is None:
        return ""
    return f"{'≤' if is_upper(result) else '≥'} {_number(result.limit, unit=result.unit)}"


def _number(value: float | None, *, unit: str = "1", signed: bool = False) -> str:
    if value is None:
        return ""
    value += 0.0  # -0.0 becomes 0.0
    text = f"{value:+.4g}" if signed else f"{value:.4g}"
    return text if unit == "1" else f"{text} {unit}"


def _when(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
