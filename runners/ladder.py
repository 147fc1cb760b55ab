"""The ladder of `.tflite` files as a person sees it: size against quality against latency, and which one ships."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from schemas.decision import EdgeDecision, GateResult, PushResult, Rung
from schemas.metrics import PROFILED

__all__ = ["ladder_lines", "ladder_table"]

_STYLES = {"chosen": "bold green", "passes": "green", "blocked": "red", "unfit": "red"}
_COLUMNS = {
    "size_mb": ("size, kB", 1e3),
    "compressed_size_mb": ("packed", 1e3),
    "latency_p50_ms": ("p50, µs", 1e3),
    "peak_memory_mb": ("memory, MB", 1.0),
    "max_abs_difference": ("difference", 1.0),
    "class_agreement": ("same class", 1.0),
}
"""Metric to its heading, and to what its unit is multiplied by for it: a file for devices is small and fast."""


def ladder_table(edge: EdgeDecision) -> Table:
    """One row for each variant, the smallest first; what blocks it stands at the end."""
    table = Table(title="Files for devices", title_justify="left", box=None, pad_edge=False, header_style="bold")
    metrics = list(dict.fromkeys(metric for rung in edge.ladder for metric in rung.figures))
    for heading in ("variant", "verdict"):
        table.add_column(heading)
    for metric in metrics:
        table.add_column(_COLUMNS.get(metric, (metric, 1.0))[0], justify="right")
    table.add_column("blocked by")
    for rung in edge.ladder:
        cells = [_number(metric, rung.figures.get(metric)) for metric in metrics]
        verdict = f"[{_STYLES[rung.verdict]}]{rung.verdict}[/]"
        table.add_row(rung.variant, verdict, *cells, escape(", ".join(_blocking(rung))))
    return table


def ladder_lines(edge: EdgeDecision, push: PushResult | None) -> list[str]:
    """What becomes of the files, as marked-up lines; `push` is what the Pusher did with them, or None."""
    told = [escape(f"  {rung.variant}: {reason}") for rung in edge.ladder for reason in _why_not(rung)]
    return [*_outcome(edge, push), *told]


def _outcome(edge: EdgeDecision, push: PushResult | None) -> list[str]:
    if push is not None and push.pushed:
        told = f"[green]Pushed {edge.variant} to devices as version {push.version}:[/] {escape(edge.reasons[0])}."
        return [told, f"  {escape(push.destination)}"]
    if push is not None and push.outcome == "already_served":
        return [f"[green]Devices have {edge.variant} already[/] as version {push.version}: nothing was pushed to them."]
    if push is not None and push.outcome == "rolled_back":
        return [f"[red]Nothing was pushed to devices:[/] {escape(push.reason)}"]
    if edge.outcome == "pending":
        return [f"[yellow]{edge.variant} waits for approval[/] with the SavedModel that it is made of."]
    if edge.outcome == "block" and not edge.variant:
        return ["[red]Nothing was pushed to devices:[/] no variant may ship."]
    return [f"Nothing was pushed to devices: {escape(_why_kept(edge))}."]


def _why_kept(edge: EdgeDecision) -> str:
    return edge.reasons[0] if edge.outcome == "block" else "push.edge is not given"


def _blocking(rung: Rung) -> list[str]:
    return ["problems"] if rung.problems else list(dict.fromkeys(one.metric for one in rung.gates if one.blocks))


def _why_not(rung: Rung) -> Iterator[str]:
    yield from rung.problems
    blocking: dict[str, list[GateResult]] = {}
    for result in rung.gates:
        if result.blocks:
            blocking.setdefault(result.gate, []).append(result)
    for first, *others in blocking.values():
        where = ", ".join(f"{key}={value}" for key, value in first.slice.items())
        more = f" (and {len(others)} more slices)" if others else ""
        yield f"{first.metric}{f'[{where}]' if where else ''}: {first.reason}{more}"


def _number(metric: str, value: float | None) -> str:
    """In the unit of the column's heading, or with its own where it has no heading of its own."""
    if value is None:
        return ""
    if metric in _COLUMNS:
        return f"{value * _COLUMNS[metric][1]:.4g}"
    unit = PROFILED[metric].unit if metric in PROFILED else "1"
    return f"{value:.4g}{f' {unit}' if unit != '1' else ''}"
