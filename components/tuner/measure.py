"""What the payload of a trial costs: measured with the Profiler's own code, of rows of `validate`. Imports no TFX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.profiler.machine import machine
from components.profiler.measure import Measured, Needs, Trained, profile
from components.profiler.rows import Rows, read_rows
from components.trainer.requests import request_name
from components.tuner.constraints import Constraint
from schemas.decision import Figure
from schemas.tuning import Violation
from serving import payload

__all__ = ["figures_of", "of_files", "of_saved_model"]

_SPLIT = "validate"
_ROWS = 2048
_MB = 1e6


def figures_of(
    saved_model: Path, examples: Path, names: Mapping[str, str], constraints: Sequence[Constraint]
) -> dict[str, float]:
    """The figures of a SavedModel that constraints limit, by `Constraint.name`; what could not be measured is not there.

    Args:
        saved_model: its folder.
        examples: folder of the raw examples.
        names: raw feature to its name in a request.
        constraints: on the SavedModel, of the stage `exported`.
    """
    found = {"size_mb": payload.size_bytes(str(saved_model)) / _MB}
    if {one.metric for one in constraints} <= set(found):
        return found
    rows = read_rows(examples, _SPLIT, _ROWS)
    nothing = Trained(Rows({}, {}, ()), None, "a trial is not compared")
    columns = {request_name(column): column for column in rows.values} | {
        name: column for column, name in names.items()
    }
    sizes = tuple({one.batch_size for one in constraints if one.batch_size})
    measured = Measured(str(saved_model), payload.digest(saved_model))
    figures = profile(measured, None, rows, nothing, columns, Needs(sizes), machine()).figures
    return found | {one.name: value for one in constraints if (value := _value(figures, one)) is not None}


def _value(figures: Sequence[Figure], constraint: Constraint) -> float | None:
    """Of the batch size that the constraint names, or the smallest."""
    mine = [one for one in figures if one.metric == constraint.metric and one.value is not None and one.against is None]
    if constraint.batch_size is not None:
        mine = [one for one in mine if one.batch_size == constraint.batch_size]
    return min(mine, key=lambda one: one.batch_size or 0).value if mine else None


def of_saved_model(constraints: Sequence[Constraint], figures: Mapping[str, float]) -> tuple[Violation, ...]:
    """The limits that are not met. A figure that could not be measured violates nothing here: the Gate blocks on it."""
    found = (one.broken_by(figures[one.name]) for one in constraints if one.name in figures)
    return tuple(broken for broken in found if broken is not None)


def of_files(constraints: Sequence[Constraint], sizes: Mapping[str, float]) -> tuple[Violation, ...]:
    """The limits on the sizes of `.tflite` files that are not met by the variant that comes nearest; none where one meets all.

    Args:
        constraints: on files.
        sizes: variant to MB.
    """
    broken = [
        tuple(
            violation
            for one in constraints
            if one.variant in (None, variant) and (violation := one.broken_by(size)) is not None
        )
        for variant, size in sizes.items()
    ]
    return min(broken, key=lambda found: max((one.share for one in found), default=0.0), default=())
