"""Finds the figures that a gate means."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.config import SatisfyGate
from schemas.decision import Figure

__all__ = ["of_payload", "same_figure", "slices_of", "whole_of"]


def of_payload(figures: Sequence[Figure], digest: str) -> list[Figure]:
    """The figures that were measured on these very bytes; no others count."""
    return [figure for figure in figures if figure.digest == digest]


def whole_of(figures: Sequence[Figure], gate: SatisfyGate) -> Figure | None:
    """The figure of a gate on the whole eval split; None where it was not measured."""
    return _smallest_batch([figure for figure in _of_gate(figures, gate) if not figure.slice])


def slices_of(figures: Sequence[Figure], gate: SatisfyGate) -> list[Figure]:
    """The figures of the gate's metric on each value of its slice, in the order of the values."""
    found = [figure for figure in _of_gate(figures, gate) if set(figure.slice) == set(gate.slice_by)]
    return sorted(found, key=lambda figure: [_sortable(figure.slice[key]) for key in gate.slice_by])


def same_figure(figures: Sequence[Figure], figure: Figure) -> Figure | None:
    """The figure of another model that is to be compared with this one; None where it was not measured."""
    wanted = _identity(figure)
    return next((one for one in figures if _identity(one) == wanted), None)


def _identity(figure: Figure) -> tuple[object, ...]:
    return figure.metric, figure.slice, figure.payload, figure.batch_size, figure.against


def _of_gate(figures: Sequence[Figure], gate: SatisfyGate) -> list[Figure]:
    return [
        figure
        for figure in figures
        if figure.metric == gate.metric
        and figure.payload == gate.payload
        and figure.against == gate.against
        and gate.batch_size in (None, figure.batch_size)
    ]


def _smallest_batch(figures: Sequence[Figure]) -> Figure | None:
    return min(figures, key=lambda figure: figure.batch_size or 0, default=None)


def _sortable(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text
