"""What has arrived since the newest run: spans, versions of spans, late ones. Pure: looks at no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from components.example_gen.spans import Span, Window
from schemas.tick import Arrival

__all__ = ["Held", "Runs", "arrivals", "runs_of"]

Runs = tuple[tuple[int, int], ...]
"""First and last of numbers that follow each other."""


@dataclass(frozen=True)
class Held:
    """What a run has read.

    Attributes:
        versions: number of each span to its version; None where the path has none.
        contents: digests of the files.
    """

    versions: Mapping[int, int | None]
    contents: frozenset[str]


def arrivals(
    window: Window, digests: Mapping[Path, str], held: Held | None, older: Runs, older_before: Runs | None
) -> tuple[Arrival, ...]:
    """The spans that a run had not read as they stand now, ascending.

    Args:
        window: of spans that a run would read now.
        digests: SHA-256 of each of its files.
        held: what the newest run has read; None where there is none, or it is not known.
        older: the spans before the window.
        older_before: the spans before the window as it was at the last tick, and those in it; None for the first tick.
    """
    found = [] if held is None else list(_in_window(window, digests, held))
    if older_before is not None:
        late = set(_numbers(older)) - set(_numbers(older_before))
        found += [Arrival(number=one, name=_name(one, window.newest), how="outside") for one in late]
    return tuple(sorted(found, key=lambda one: one.number))


def _in_window(window: Window, digests: Mapping[Path, str], held: Held) -> Iterator[Arrival]:
    newest = max(held.versions, default=-1)
    for span in window.spans:
        known = all(digests[file] in held.contents for file in span.files)
        moved = span.number not in held.versions or held.versions[span.number] != span.version
        arrival = Arrival(number=span.number, name=span.name, version=span.version, how="new")
        if known and moved:
            yield arrival.model_copy(update={"how": "same"})
        elif not known:
            how = "again" if span.number in held.versions else "late" if span.number < newest else "new"
            yield arrival.model_copy(update={"how": how})


def runs_of(numbers: Iterable[int]) -> Runs:
    """Numbers as first and last of those that follow each other.

    >>> runs_of([1, 2, 3, 7])
    ((1, 3), (7, 7))
    """
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)


def _numbers(runs: Sequence[tuple[int, int]]) -> Iterator[int]:
    for first, last in runs:
        yield from range(first, last + 1)


def _name(number: int, like: Span) -> str:
    return (like.date + timedelta(days=number - like.number)).isoformat() if like.date else str(number)
