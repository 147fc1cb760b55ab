"""What a run for a pull request found: a comment in Markdown, JUnit XML and JSON. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from components.gate.words import change_needed, label
from runners.why import cell, gates_markdown
from schemas.decision import DataDecision, Decision, GateResult

__all__ = ["EXIT_CODES", "Outcome", "Report", "changes", "marker"]

Outcome = Literal["would_push", "would_block", "failed"]
EXIT_CODES: dict[Outcome, int] = {"would_push": 0, "would_block": 3, "failed": 1}
_SHOWN = 30
"""So many changes of a kind stand in the comment."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        pipeline: its name.
        base: what it was compared with, in words; "" for nothing.
        base_told: what became of the base, where that needs telling.
        sample: the rows, in words.
        outcome: of the candidate.
        decision: the Gate's; None where the run did not come to one.
        data_decision: the data gate's; likewise.
        error: why the run failed; "" where it did not.
        data: in which way the rows differ from the base's, one sentence each.
        code: files that differ from the base's.
        configuration: key to what it was and what it is.
        fingerprint: of the source's files.
        machine: on which it was measured.
    """

    pipeline: str
    base: str
    base_told: str
    sample: str
    outcome: Outcome
    decision: Decision | None = None
    data_decision: DataDecision | None = None
    error: str = ""
    data: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    configuration: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    fingerprint: str = ""
    machine: str = ""

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return EXIT_CODES[self.outcome]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it would be blocked, or failed; or what the Gate says of what passed."""
        decided = self.decision or self.data_decision
        told = tuple(decided.reasons) if decided else ()
        return (*told, *((self.error,) if self.error else ()))

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """Every verdict: on the SavedModel, and on the file for devices that is chosen or was nearest to it."""
        if self.decision is None:
            return ()
        edge = self.decision.edge
        judged = [rung for rung in edge.ladder if rung.gates] if edge is not None else []
        shown = next((rung for rung in judged if rung.verdict == "chosen"), judged[0] if judged else None)
        return (*self.decision.gates, *(shown.gates if shown is not None else ()))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "pipeline": self.pipeline,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "base": self.base,
            "base_told": self.base_told,
            "sample": self.sample,
            "data": self.fingerprint,
            "machine": self.machine,
            "reasons": list(self.reasons),
            "decision": self.decision.model_dump(mode="json") if self.decision else None,
            "data_decision": self.data_decision.model_dump(mode="json") if self.data_decision else None,
            "changed": {
                "data": list(self.data),
                "code": list(self.code),
                "configuration": {key: {"base": old, "now": new} for key, (old, new) in self.configuration.items()},
            },
        }

    def markdown(self) -> str:
        """The comment. Its first line, which is not shown, names it, so that it is updated and not repeated."""
        told = {"would_push": "would be pushed", "would_block": "would be blocked", "failed": "the run failed"}
        parts = [marker(self.pipeline), f"### satisfice: {cell(self.pipeline)} {told[self.outcome]}"]
        compared = f" Compared with {cell(self.base)}." if self.base else " Compared with nothing."
        parts.append(f"{cell(self.sample)}.{compared}{' ' + cell(self.base_told) if self.base_told else ''}")
        if self.decision is not None:
            parts.append(
                gates_markdown(self.gates, {"value": "candidate", "champion": "base" if self.base else "champion"})
            )
        edge = self.decision.edge if self.decision is not None else None
        sections = {
            "Reasons": [cell(one) for one in self.reasons],
            "To pass": [cell(change) for change in map(change_needed, self.gates) if change],
            "Files for devices": [cell(f"{edge.variant or 'none'}: {one}") for one in edge.reasons] if edge else [],
            "Changed data": [cell(one) for one in self.data],
            "Changed configuration": [
                f"{cell(key)}: {cell(_short(old))} → {cell(_short(new))}"
                for key, (old, new) in self.configuration.items()
            ],
            "Changed files": [cell(name) for name in self.code],
        }
        for heading, lines in sections.items():
            more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            if lines:
                parts.append("\n".join([f"{heading}:", "", *(f"- {line}" for line in [*lines[:_SHOWN], *more])]))
        parts.append("Nothing was pushed: this run has a root and a base path of its own.")
        return "\n\n".join(parts) + "\n"

    def junit(self) -> str:
        """A test suite with a case for each gate; one that blocks is a failure."""
        suite = ET.Element("testsuite", name=f"satisfice.{self.pipeline}")
        for gate in self.gates:
            _case(suite, gate.gate, label(gate), _words(gate), "failure" if gate.blocks else "")
        if self.data_decision is not None:
            blocked = self.data_decision.outcome == "block"
            told = "; ".join(self.data_decision.reasons)
            _case(suite, "data.validate", "data gate", told, "failure" if blocked else "")
        if self.error:
            _case(suite, "run", "the run", self.error, "error")
        for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            suite.set(attribute, str(len(list(suite.iter(tag)))))
        ET.indent(suite)
        return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def marker(pipeline: str) -> str:
    """By which a comment on a pipeline is known again."""
    return f"<!-- satisfice-ci: {pipeline} -->"


def changes(then: Any, now: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key to the values that differ in two configurations; None where one has none.

    >>> changes({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a.c': (2, 3)}
    """
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [*then, *(key for key in now if key not in then)]
        found: dict[str, tuple[Any, Any]] = {}
        for key in keys:
            found |= changes(then.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if then == now else {path: (then, now)}


def _words(gate: GateResult) -> str:
    change = change_needed(gate)
    return f"{gate.verdict}: {gate.reason}{f'; {change}' if change else ''}"


def _case(suite: ET.Element, where: str, name: str, told: str, kind: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=_printable(where), name=_printable(name))
    if kind:
        ET.SubElement(case, kind, message=_printable(told))
    else:
        ET.SubElement(case, "system-out").text = _printable(told)


def _printable(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(sign if sign in "\t\n" or sign >= " " else "�" for sign in text)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
