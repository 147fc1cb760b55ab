"""Kubeflow's cron expressions, checked before they are sent: six fields, the first of them seconds.

Its backend takes five as well, and reads them otherwise than every other cron does: `0 3 * * *` is there not three o'clock
but the third minute of each hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import Fault

__all__ = ["cron_faults"]

_FIELDS = 6
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAYS_IN = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"^(?P<low>\*|\?|\w+)(-(?P<high>\w+))?(/(?P<step>\d+))?$")


@dataclass(frozen=True)
class _Field:
    """A field: its name, its bounds, the names of its values, and whether `?` may stand for "any"."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    any_mark: bool = False


_EACH = (
    _Field("seconds", 0, 59),
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("day of the month", 1, 31, any_mark=True),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _DAYS, any_mark=True),
)


def cron_faults(text: str, path: str) -> list[Fault]:
    """What is wrong with an expression; nothing where Kubeflow reads it as it stands.

    Args:
        text: `SECONDS MINUTES HOURS DAY MONTH WEEKDAY`.
        path: where it was given, for messages.
    """
    parts = text.split()
    if len(parts) == _FIELDS - 1:
        expected = f"six fields, seconds first: '0 {' '.join(parts)}'"
        return [Fault(path, "has five fields, which Kubeflow would read as seconds to days", expected, text)]
    if len(parts) != _FIELDS:
        return [Fault(path, "is no cron expression", "six fields: seconds minutes hours day month weekday", text)]
    faults = [
        Fault(path, f"{field.name}: {problem}", f"{field.low} to {field.high}", part)
        for field, part in zip(_EACH, parts, strict=True)
        for problem in _problems(field, part)
    ]
    if not faults and _never(parts):
        return [Fault(path, "names a day that no such month has", "a day of the month", text)]
    return faults


def _problems(field: _Field, text: str) -> Iterator[str]:
    for part in text.split(","):
        found = _PART.match(part)
        if found is None or (found["low"] == "?" and (not field.any_mark or part != "?")):
            yield "is not a value, a range, a step or *"
            continue
        if found["low"] in ("*", "?"):
            low, high = field.low, field.high
            if found["high"]:
                yield "is not a value, a range, a step or *"
        else:
            low = _value(field, found["low"])
            high = _value(field, found["high"]) if found["high"] else low
        if not field.low <= low <= field.high or not field.low <= high <= field.high:
            yield "is out of its bounds"
        elif high < low:
            yield "begins after its end"
        if found["step"] is not None and int(found["step"]) == 0:
            yield "has a step of 0"


def _value(field: _Field, word: str) -> int:
    if word.isdecimal():
        return int(word)
    return field.names.index(word.upper()) + field.low if word.upper() in field.names else -1


def _never(parts: list[str]) -> bool:
    """Whether a single day stands beside months that are all too short for it."""
    day, month, weekday = parts[3:]
    if (
        not day.isdecimal()
        or weekday not in ("*", "?")
        or not all(re.fullmatch(r"\w+", one) for one in month.split(","))
    ):
        return False
    return all(int(day) > _DAYS_IN[_value(_EACH[4], one) - 1] for one in month.split(","))
