"""A verdict in words: what was judged, by how much it missed, and what would have to change."""

from __future__ import annotations

import math

from schemas.decision import GateResult
from schemas.metrics import direction

__all__ = ["change_needed", "is_of_value", "is_upper", "label", "shown", "where"]


def shown(value: float, unit: str = "1") -> str:
    """A value with its unit.

    >>> shown(0.123456789), shown(3.0, "ms")
    ('0.123457', '3 ms')
    """
    return f"{value:.6g}" if unit == "1" else f"{value:.6g} {unit}"


def label(result: GateResult) -> str:
    """What was judged: metric, slice, and what tells it from others of its name.

    >>> label(GateResult(gate="g", condition="min", metric="auc", slice={"hour": "3"}, verdict="fail", reason=""))
    'auc[hour=3]'
    """
    place = where(result)
    return f"{result.metric}[{place}]" if place else result.metric


def where(result: GateResult) -> str:
    """The slice, and what else tells a result from others of its metric; "" where nothing does."""
    words = [f"{key}={value}" for key, value in result.slice.items()]
    words += ["between slices"] if result.condition == "max_gap" and not result.slice else []
    words += [] if result.payload == "saved_model" else [result.payload]
    words += [f"batch {result.batch_size}"] if result.batch_size else []
    words += [f"against {result.against}"] if result.against else []
    return ", ".join(words)


def is_upper(result: GateResult) -> bool:
    """Whether the limit is one that the value must not exceed."""
    if result.condition in ("max_drop", "at_least_champion_minus"):
        return direction(result.metric) == "lower"
    return result.condition != "min"


def is_of_value(result: GateResult) -> bool:
    """Whether the margin is the value's own distance from the limit, and not that of a comparison in pairs."""
    if result.value is None or result.limit is None or result.margin is None:
        return False
    return math.isclose(abs(result.value - result.limit), abs(result.margin), rel_tol=1e-9, abs_tol=1e-12)


def change_needed(result: GateResult) -> str:
    """What would have to change for a result that blocks to pass; "" for one that does not block.

    >>> blocked = GateResult(gate="g", condition="min", metric="auc", value=0.7, limit=0.75, margin=-0.05,
    ...                      verdict="fail", reason="")
    >>> change_needed(blocked)
    'auc has to rise by 0.05, to 0.75'
    """
    if not result.blocks:
        return ""
    if result.verdict == "not_measured" and result.value is not None and result.champion is None:
        return f"{label(result)} of the champion has to be measured, or its lack accepted: --accept-without-champion"
    if result.verdict == "not_measured" or result.margin is None or result.limit is None:
        return f"{label(result)} has to be measured"
    verb = "fall" if is_upper(result) else "rise"
    if result.verdict == "fail":
        by, to = shown(-result.margin, result.unit), shown(result.limit, result.unit)
        return f"{label(result)} has to {verb} by {by}{f', to {to}' if is_of_value(result) else ''}"
    low, high = result.interval or (result.limit, result.limit)
    by = shown(high - result.limit if is_upper(result) else result.limit - low, result.unit)
    more = "examples" if result.unit == "1" else "repetitions"
    return f"{label(result)} has to {verb} by {by}, or be measured on more {more}, for its interval to clear the limit"
