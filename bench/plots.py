"""The plots of RESULTS.md: wall time over rows, and seconds per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.contenders import BARE_EPOCH, BARE_STEPS, OURS_EPOCH, OURS_STEPS, STOCK
from bench.records import Record

__all__ = ["STAGES", "draw", "stage_seconds"]

_COLOURS = {
    STOCK: "#7f7f7f",
    OURS_STEPS: "#1f6fb4",
    BARE_STEPS: "#d9822b",
    OURS_EPOCH: "#1f6fb4",
    BARE_EPOCH: "#d9822b",
}
_NAMES = {
    STOCK: "stock TFX",
    OURS_STEPS: "ours",
    BARE_STEPS: "hand-written",
    OURS_EPOCH: "ours",
    BARE_EPOCH: "hand-written",
}
_IN_STEPS = "1,000 steps of 40 rows"
_PANELS = {
    _IN_STEPS: (STOCK, OURS_STEPS, BARE_STEPS),
    "one epoch at batch 1,024": (OURS_EPOCH, BARE_EPOCH),
}
STAGES = {
    "ingest": ("CsvExampleGen", "ExampleGen", "read"),
    "statistics": ("StatisticsGen",),
    "validation": ("SchemaGen", "ExampleValidator", "CuratedSchema", "DataGate"),
    "transform": ("Transform", "prepare"),
    "train, export": ("Trainer", "train", "export"),
    "evaluate": ("Evaluator", "evaluate"),
    "gate, push": ("Gate", "Pusher"),
}
"""Which nodes and stages do the same for each contender; what is in none is not shown apart."""
_REST = "imports, the rest"


def draw(records: Sequence[Record], folder: Path) -> None:
    """Writes `wall.png` and `stages.png` from the successful measurements of `compare`."""
    import matplotlib as mpl

    mpl.use("Agg")
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 144}
    with mpl.rc_context(style):
        good = [record for record in records if not record.error]
        _draw_wall(good, folder / "wall.png")
        _draw_stages(good, folder / "stages.png")


def stage_seconds(measured: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage, in the order of `STAGES`, and what of the wall time is in none of them.

    >>> stage_seconds({"wall_s": 10.0, "stages": {"read": {"seconds": 1.0}, "train": {"seconds": 5.0}}})["ingest"]
    1.0
    """
    stages = measured["stages"]
    found = {name: sum(stages[node]["seconds"] for node in nodes if node in stages) for name, nodes in STAGES.items()}
    return {**found, _REST: max(0.0, measured["wall_s"] - sum(found.values()))}


def _draw_wall(records: Sequence[Record], file: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    sizes = sorted({record.rows for record in records})
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, sharey=True, layout="constrained")
    for panel, (title, contenders) in zip(panels, _PANELS.items(), strict=True):
        for name in contenders:
            _line(panel, records, name)
        panel.set(title=title, xscale="log", yscale="log", xlabel="rows")
        panel.set_xticks(sizes)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: _short(rows)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(axis="y", which="major", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
    walls = [record.measured["wall_s"] for record in records if record.contender in _COLOURS] or [1.0]
    panels[0].set_yticks(
        [s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if min(walls) / 2 <= s <= max(walls) * 2]
    )
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("wall time of a first run, s")
    panels[0].set_xlim(min(sizes) / 1.5, max(sizes) * 1.3)  # names stand beyond it
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)


def _line(panel: Any, records: Sequence[Record], name: str) -> None:
    """Medians joined, with bars from minimum to maximum, and the contender's name at the end."""
    sizes = sorted({record.rows for record in records if record.contender == name})
    if not sizes:
        return
    walls = [
        [one.measured["wall_s"] for one in records if one.contender == name and one.rows == rows] for rows in sizes
    ]
    middle = [median(values) for values in walls]
    bars = [
        [m - min(v) for m, v in zip(middle, walls, strict=True)],
        [max(v) - m for m, v in zip(middle, walls, strict=True)],
    ]
    colour = _COLOURS[name]
    panel.errorbar(sizes, middle, yerr=bars, color=colour, marker="o", markersize=4, linewidth=1.6, capsize=3)
    panel.annotate(
        f"{_NAMES[name]} {middle[-1]:,.0f} s", (sizes[-1], middle[-1]), xytext=(8, 0), textcoords="offset points",
        color=colour, va="center",
    )  # fmt: skip


def _draw_stages(records: Sequence[Record], file: Path) -> None:
    """Bars by stage, for each number of rows, at 1,000 steps of 40."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    sizes = sorted({record.rows for record in records})
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(3.2 * len(sizes) + 1.2, 4.4), squeeze=False, layout="constrained"
    )
    labels = [*STAGES, _REST]
    for panel, rows in zip(panels[0], sizes, strict=True):
        for place, name in enumerate(_PANELS[_IN_STEPS]):
            found = [one for one in records if one.contender == name and one.rows == rows]
            if not found:
                continue
            typical = sorted(found, key=lambda one: one.measured["wall_s"])[len(found) // 2]
            seconds = list(stage_seconds(typical.measured).values())
            at = [row + (place - 1) * 0.27 for row in range(len(labels))]
            panel.barh(at, seconds, height=0.25, color=_COLOURS[name])
            for y, value in zip(at, seconds, strict=True):
                if value >= 0.05:
                    panel.text(value, y, f" {value:.1f}", va="center", fontsize=7, color=_COLOURS[name])
        panel.set(title=f"{rows:,} rows", xlabel="seconds", yticks=range(len(labels)))
        panel.set_yticklabels(labels if panel is panels[0][0] else [])
        panel.tick_params(axis="y", length=0)
        panel.invert_yaxis()
        panel.margins(x=0.15)
    handles = [Patch(color=_COLOURS[name], label=_NAMES[name]) for name in _PANELS[_IN_STEPS]]
    figure.legend(handles=handles, frameon=False, loc="outside upper center", ncols=len(handles))
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)


def _short(rows: float) -> str:
    """A number of rows in few signs: 15k, 100k, 1M."""
    return f"{rows / 1e6:g}M" if rows >= 1e6 else f"{rows / 1e3:.0f}k"
