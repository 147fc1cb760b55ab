"""The ladder of `.tflite` files as a person sees it: size against quality against latency, and which one ships."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from schemas.decision import EdgeDecision, GateResult, PushResult, Rung
from schemas.metrics import PROFILED

__all__ = ["ladder_lines", "ladder_table", "rung_results"]

_STYLES = {"chosen": "bold green", "passes": "green", "blocked": "red", "unfit": "red"}


def ladder_table(edge: EdgeDecision) -> Table:
    """One row for each variant, the smallest first; what blocks it stands at the end."""
    table = Table(title="Files for devices", title_justify="left", box=None, pad_edge=False, header_style="bold")
    metrics = list(dict.fromkeys(metric for rung in edge.ladder for metric in rung.figures))
    for heading in ("variant", "verdict"):
        table.add_column(heading)
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column("blocked by")
    for rung in edge.ladder:
        cells = [_number(metric, rung.figures.get(metric)) for metric in metrics]
        verdict = f"[{_STYLES[rung.verdict]}]{rung.verdict}[/]"
        table.add_row(rung.variant, verdict, *cells, escape(", ".join(_blocking(rung))))
    return table


def ladder_lines(edge: EdgeDecision, push: PushResult | None) -> list[str]:
    """What becomes of the files, as marked-up lines; `push` is what the Pusher did with them, or None."""
    told = [escape(f"  {rung.variant}: {reason}") for rung in edge.ladder for reason in _why_not(rung)]
    if push is not None and push.pushed:
        return [
            *told,
            f"[green]Pushed {edge.variant} to devices as version {push.version}.[/]",
            f"  {escape(push.destination)}",
        ]
    if push is not None and push.outcome == "already_served":
        return [*told, f"[green]Devices have {edge.variant} already[/] as version {push.version}."]
    if edge.outcome == "block":
        return ["[red]Nothing was pushed to devices:[/] no variant may ship.", *told]
    return [*told, f"Nothing was pushed to devices: {escape(edge.reasons[0])}."]


def rung_results(edge: EdgeDecision) -> Iterator[tuple[str, GateResult]]:
    """Every verdict on every variant, with the variant's name."""
    return ((rung.variant, result) for rung in edge.ladder for result in rung.gates)


def _blocking(rung: Rung) -> list[str]:
    return ["problems"] if rung.problems else list(dict.fromkeys(one.metric for one in rung.gates if one.blocks))


def _why_not(rung: Rung) -> Iterator[str]:
    yield from rung.problems
    for result in rung.gates:
        if result.blocks:
            where = ", ".join(f"{key}={value}" for key, value in result.slice.items())
            yield f"{result.metric}{f'[{where}]' if where else ''}: {result.reason}"


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    unit = PROFILED[metric].unit if metric in PROFILED else "1"
    return f"{value:.4g}{f' {unit}' if unit != '1' else ''}"
