"""Why a run ended as it did: the decision, every gate, the nearest to failing, what would have to change. Reads alone."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from components.gate.words import change_needed, is_of_value, is_upper, label, shown, where
from components.lineage.reader import Lineage, RunRecord
from runners.leaderboard import search_lines, search_of
from runners.view import gate_table
from schemas.decision import DataDecision, Decision, EdgeDecision, GateResult, Payload, PushResult
from schemas.errors import MetadataError
from schemas.tuning import Search

__all__ = ["Why", "cell", "gates_markdown", "spans_lines", "why"]

_COLUMNS = ("verdict", "metric", "where", "value", "limit", "margin", "champion", "interval", "n", "gate")
_STYLE = "body{font:14px sans-serif;margin:2em}h1{font-size:18px}h2{font-size:15px}td,th{padding:2px 12px 2px 0;text-align:left}"

_DATE = 8
"""With so many digits a run's id begins; fewer are the number of a version."""


@dataclass(frozen=True)
class Why:
    """What the lineage holds of one run's decision.

    Attributes:
        run: the run.
        decision: the Gate's, with what a person decided on it; None where the run did not come to one.
        data_decision: the data gate's; None where the run did not come to one.
        push: what the Pusher did; None where it did not run.
        search: for hyperparameters; None where there was none, or its record is gone.
    """

    run: RunRecord
    decision: Decision | None
    data_decision: DataDecision | None
    push: PushResult | None
    search: Search | None = None

    @property
    def verdict(self) -> str:
        """How the run ended, in a sentence."""
        run = f"Run {self.run.run_id}"
        if self.push is not None and self.push.outcome != "not_pushed" and self.push.blocked:
            done = "what was published was withdrawn" if self.push.withdrawn else "nothing was pushed"
            return f"{run}: blocked, {done}. {self.push.reason}"
        if self.push is not None and self.push.outcome != "not_pushed":
            return f"{run}: {self.push.outcome.replace('_', ' ')}, version {self.push.version}. {self.push.reason}"
        told = {
            "blocked": "blocked by the gate, nothing was pushed.",
            "data_blocked": "blocked by the data gate, nothing was trained.",
            "pending": "waits for approval, nothing is pushed until a person approves.",
            "rejected": "rejected by a person, nothing was pushed.",
            "unfinished": "has not ended, or its process was cut off.",
        }
        return f"{run}: {told.get(self.run.outcome, f'{self.run.outcome}. {self.run.error}'.strip())}"

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence each, the blocking ones first."""
        if self.decision is not None:
            return self.decision.reasons
        return self.data_decision.reasons if self.data_decision is not None else ()

    @property
    def nearest(self) -> GateResult | None:
        """The gate that was passed by the smallest share of its limit; None where none was passed by a measure."""
        gates = self.decision.gates if self.decision is not None else ()
        return next((gate for gate in gates if not gate.blocks and gate.margin is not None), None)

    @property
    def changes(self) -> list[str]:
        """What would have to change for each result that blocks."""
        gates = self.decision.gates if self.decision is not None else ()
        return [change for change in map(change_needed, gates) if change]

    def edge(self) -> EdgeDecision:
        """The Gate's choice of a `.tflite` file.

        Raises:
            MetadataError: the run came to none.
        """
        if self.decision is None or self.decision.edge is None:
            raise MetadataError(
                f"run {self.run.run_id}",
                "decided on no .tflite file",
                expected="a run of a configuration with export.tflite that came to the Gate",
            )
        return self.decision.edge

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        decision, data, push, nearest = self.decision, self.data_decision, self.push, self.nearest
        return {
            "run": self.run.summary(),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "nearest": nearest.model_dump(mode="json") if nearest else None,
            "to_change": self.changes,
            "decision": decision.model_dump(mode="json") if decision else None,
            "data_decision": data.model_dump(mode="json") if data else None,
            "push": push.model_dump(mode="json") if push else None,
            "tuning": self.search.model_dump(mode="json") if self.search else None,
        }

    def print_on(self, console: Console, *, every_slice: bool) -> None:
        """For people."""
        console.print(self.verdict, markup=False, soft_wrap=True)
        if self.decision is not None:
            console.print(gate_table(self.decision, every_slice=every_slice))
        for heading, lines in self._sections():
            console.print(f"[bold]{heading}[/]")
            for line in lines:
                console.print(f"  {escape(line)}", soft_wrap=True)

    def markdown(self, verdict: str = "") -> str:
        """For a pull request: the same, every slice in the table; with another first sentence where one is given."""
        parts = [f"**{cell(verdict or self.verdict)}**"]
        if self.decision is not None:
            parts.append(gates_markdown(self.decision.gates))
        parts += [
            "\n".join([f"{heading}:", "", *(f"- {line}" for line in lines)]) for heading, lines in self._sections()
        ]
        return "\n\n".join(parts)

    def _files(self) -> list[str]:
        edge = self.decision.edge if self.decision is not None else None
        pushed = self.push.edge if self.push is not None else None
        if edge is None:
            return []
        done = pushed.reason if pushed is not None else edge.reasons[0]
        return [
            f"{edge.variant or 'none'}: {done}",
            f"`satisfice why {self.run.run_id} --payload tflite` shows the ladder",
        ]

    def html(self, verdict: str = "") -> str:
        """The same as a page of its own."""
        parts = [f"<h1>{html.escape(verdict or self.verdict)}</h1>"]
        if self.decision is not None:
            rows = [_html_row("th", _COLUMNS), *(_html_row("td", _row(one)) for one in self.decision.gates)]
            parts.append(f"<table>{''.join(rows)}</table>")
        for heading, lines in self._sections():
            items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
            parts.append(f"<h2>{html.escape(heading)}</h2><ul>{items}</ul>")
        return f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{_STYLE}</style>{"".join(parts)}</html>\n'

    def _sections(self) -> list[tuple[str, list[str]]]:
        nearest = self.nearest
        notes = list(self.decision.notes) if self.decision is not None else []
        approval = self.decision.approval if self.decision is not None else None
        told = [f"{approval.outcome} by {approval.by} on {approval.at}: {approval.reason}"] if approval else []
        sections = [
            ("Data", spans_lines(self.run)),
            ("Hyperparameters", search_lines(self.search)),
            ("Reasons", list(self.reasons)),
            ("To pass", self.changes),
            ("Nearest to failing", [_distance(nearest)] if nearest else []),
            ("Approval", told),
            ("Files for devices", self._files()),
            ("Notes", notes),
        ]
        return [(heading, lines) for heading, lines in sections if lines]


def spans_lines(run: RunRecord) -> list[str]:
    """Which spans a run's data have; nothing where they have none."""
    missing = f"; missing: {run.missing_spans}" if run.missing_spans else ""
    return [f"spans {run.spans}{missing}"] if run.spans else []


def why(lineage: Lineage, asked: str, payload: Payload = "saved_model") -> Why:
    """What the lineage holds of a version, a run, or the newest run.

    Args:
        lineage: of the pipeline.
        asked: number of a version that was pushed, a run's id or the beginning of one, or `latest`.
        payload: whether a number is that of a SavedModel's version or of a `.tflite` file's.

    Raises:
        MetadataError: there is no such version or run.
    """
    run = lineage.run(_run_of_version(lineage, asked, payload) if asked.isdecimal() and len(asked) < _DATE else asked)
    run_id = run.run_id
    search = search_of(lineage.nodes(run))
    return Why(run, lineage.decision(run_id), lineage.data_decision(run_id), lineage.push_result(run_id), search)


def _run_of_version(lineage: Lineage, asked: str, payload: Payload) -> str:
    found = lineage.run_of_version(int(asked), payload)
    if found is None:
        raise MetadataError(
            f"version {asked}",
            "was pushed by no run that this lineage knows",
            remedy="`satisfice versions` lists what the base path holds, `satisfice runs` the runs.",
        )
    return found


def _distance(result: GateResult) -> str:
    assert result.margin is not None
    assert result.limit is not None
    assert result.value is not None
    if not is_of_value(result):
        return f"{label(result)}: {result.reason}"
    side = "below" if is_upper(result) else "above"
    text = (
        f"{label(result)}: {shown(result.value, result.unit)} is {shown(abs(result.margin), result.unit)} "
        f"{side if result.margin >= 0 else 'past'} the limit of {shown(result.limit, result.unit)}"
    )
    return f"{text} ({abs(result.margin / result.limit):.1%})" if result.limit else text


def gates_markdown(gates: Iterable[GateResult], names: Mapping[str, str] | None = None) -> str:
    """Every verdict as a table of Markdown.

    Args:
        gates: the verdicts.
        names: column to what it is called, where that is something else.
    """
    rows = [
        tuple((names or {}).get(name, name) for name in _COLUMNS),
        ("---",) * len(_COLUMNS),
        *(map(cell, _row(one)) for one in gates),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(result: GateResult) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else shown(value, result.unit)

    limit = "" if result.limit is None else f"{'≤' if is_upper(result) else '≥'} {number(result.limit)}"
    interval = f"{shown(result.interval[0])}..{shown(result.interval[1])}" if result.interval else ""
    count = "" if result.n is None else f"{result.n:,}"
    return (
        result.verdict,
        result.metric,
        where(result),
        number(result.value),
        limit,
        number(result.margin),
        number(result.champion),
        interval,
        count,
        result.gate,
    )


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def cell(text: str) -> str:
    """Text that does not break a table or begin markup."""
    for sign in "\\|*_`<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
