"""The ladder of `.tflite` files as a person sees it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from runners.ladder import ladder_lines, ladder_table
from schemas.decision import EdgeDecision, GateResult, PushResult, Rung


def result(metric: str = "max_abs_difference", **more: Any) -> GateResult:
    values = {"gate": "gates.satisfy.1", "condition": "max", "payload": "tflite", "verdict": "fail"}
    return GateResult.model_validate({**values, "metric": metric, "reason": "0.343 is not at most 0.1", **more})


FIGURES = {"size_mb": 0.01927, "latency_p50_ms": 0.001783, "max_abs_difference": 0.343, "auc": 0.9566}
BLOCKED = Rung(variant="int8", digest="b", verdict="blocked", figures=FIGURES, gates=(result(),))
CHOSEN = Rung(variant="float16", digest="c", verdict="chosen", figures={**FIGURES, "size_mb": 0.025})
UNFIT = Rung(variant="int16x8", digest="", verdict="unfit", problems=("Erf (layer gelu) has no TFLite kernel.",))
EDGE = EdgeDecision(
    outcome="push", variant="float16", digest="c", ladder=(BLOCKED, CHOSEN, UNFIT), reasons=("float16 is the smallest",)
)
TOLD = ["  int8: max_abs_difference: 0.343 is not at most 0.1", "  int16x8: Erf (layer gelu) has no TFLite kernel."]


def pushed(outcome: str, **more: Any) -> PushResult:
    values = {
        "pushed": outcome == "pushed",
        "digest": "c",
        "version": 3,
        "destination": "/there/3",
        "reason": "Because.",
    }
    return PushResult.model_validate({**values, "outcome": outcome, **more})


def lines(edge: EdgeDecision, push: PushResult | None) -> list[str]:
    console = Console(width=200)
    with console.capture() as captured:
        for line in ladder_lines(edge, push):
            console.print(line, soft_wrap=True)
    return captured.get().splitlines()


def test_one_row_for_each_variant() -> None:
    """Small things in small units; what blocks stands at the end, and what was not measured stays empty."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(ladder_table(EDGE))
    title, heading, *rows = (line.split() for line in captured.get().splitlines())
    assert title == ["Files", "for", "devices"]
    assert heading == ["variant", "verdict", "size,", "kB", "p50,", "µs", "difference", "auc", "blocked", "by"]
    assert rows == [
        ["int8", "blocked", "19.27", "1.783", "0.343", "0.9566", "max_abs_difference"],
        ["float16", "chosen", "25", "1.783", "0.343", "0.9566"],
        ["int16x8", "unfit", "problems"],
    ]


def test_what_was_pushed_and_why_the_others_were_not() -> None:
    """The version first, then each variant that may not ship with its reasons."""
    assert lines(EDGE, pushed("pushed")) == [
        "Pushed float16 to devices as version 3: float16 is the smallest.",
        "  /there/3",
        *TOLD,
    ]


@pytest.mark.parametrize(
    ("edge", "push", "told"),
    [
        (EDGE, pushed("already_served"), "Devices have float16 already as version 3: nothing was pushed to them."),
        (
            EDGE,
            pushed("rolled_back", reason="Rolled back by Ada."),
            "Nothing was pushed to devices: Rolled back by Ada.",
        ),
        (
            EDGE.model_copy(update={"outcome": "pending", "reasons": ("the SavedModel waits",)}),
            pushed("not_pushed"),
            "float16 waits for approval with the SavedModel that it is made of.",
        ),
        (
            EDGE.model_copy(
                update={"outcome": "block", "reasons": ("the SavedModel that float16 is made of is blocked",)}
            ),
            pushed("not_pushed"),
            "Nothing was pushed to devices: the SavedModel that float16 is made of is blocked.",
        ),
        (EDGE, None, "Nothing was pushed to devices: push.edge is not given."),
        (
            EDGE.model_copy(update={"outcome": "block", "variant": "", "digest": "", "ladder": (BLOCKED, UNFIT)}),
            pushed("not_pushed"),
            "Nothing was pushed to devices: no variant may ship.",
        ),
    ],
)
def test_what_was_not_pushed_says_why(edge: EdgeDecision, push: PushResult | None, told: str) -> None:
    """In the first line, with the reasons of each variant below."""
    assert lines(edge, push) == [told, *TOLD]


def test_slices_of_one_gate_are_told_once() -> None:
    """The first that blocks, and how many more."""
    slices = tuple(result("auc", slice={"hour": str(hour)}, reason=f"reason {hour}") for hour in (7, 8, 9))
    edge = EDGE.model_copy(update={"ladder": (BLOCKED.model_copy(update={"gates": slices}),)})
    assert lines(edge, pushed("not_pushed"))[1:] == ["  int8: auc[hour=7]: reason 7 (and 2 more slices)"]


def test_figures_keep_the_unit_that_no_heading_names() -> None:
    """A latency that a gate asks for beside the median."""
    edge = EDGE.model_copy(update={"ladder": (CHOSEN.model_copy(update={"figures": {"latency_p99_ms": 0.25}}),)})
    console = Console(width=200)
    with console.capture() as captured:
        console.print(ladder_table(edge))
    assert "0.25 ms" in captured.get()
