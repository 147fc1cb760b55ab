"""Cron expressions: five fields, and the newest time at which one was due. Imports nothing but the standard library.

Fields are minute, hour, day of the month, month and day of the week (0 or 7 is Sunday), each `*`, a number, a range
`a-b`, either with a step `/n`, or several of them with commas; months and days of the week also by their English names.
Where both days are restricted, either is enough, as in Vixie's cron and POSIX's crontab(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

__all__ = ["Cron"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES = {"minute": (0, 59), "hour": (0, 23), "day of the month": (1, 31), "month": (1, 12), "day of the week": (0, 7)}
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of the week": {name: number for number, name in enumerate(_DAYS)},
}
_LONGEST = timedelta(days=9 * 366)
"""29 February comes again after eight years where a century's turn has none."""


@dataclass(frozen=True)
class Cron:
    """When something is due.

    Attributes:
        minutes, hours, days, months, weekdays: numbers that match; of weekdays 0 is Sunday.
        either_day: whether a day of the month or one of the week is enough.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Reads an expression.

        >>> sorted(Cron.parse("*/20 3 * * mon-fri").minutes)
        [0, 20, 40]

        Raises:
            ValueError: what is wrong with it, in words.
        """
        fields = text.split()
        if len(fields) != len(_RANGES):
            raise ValueError(f"has {len(fields)} fields")
        found = [_field(name, field) for name, field in zip(_RANGES, fields, strict=True)]
        weekdays = frozenset(number % 7 for number in found[4])
        either = not fields[2].startswith("*") and not fields[4].startswith("*")
        cron = cls(found[0], found[1], found[2], found[3], weekdays, either)
        if not any(cron._on(day) for day in _days_back(date(2032, 12, 31), date(2024, 1, 1))):
            raise ValueError("names a day that no month has")
        return cron

    def last_due(self, after: datetime, until: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The newest time after `after` and not after `until` at which it was due, in UTC; None where there is none.

        Times are those of clocks in `zone`. One that a clock skips when summer begins is due an hour later by the new
        time; one that comes twice when summer ends is due at the first.

        Args:
            after, until: with a time zone. At most nine years back are looked at.
            zone: of the expression.
        """
        first = max(after, until - _LONGEST).astimezone(zone).date() - timedelta(days=1)
        for day in _days_back(until.astimezone(zone).date(), first):
            if not self._on(day):
                continue
            due = [self._at(day, hour, minute, zone) for hour in self.hours for minute in self.minutes]
            newest = max((one for one in due if after < one <= until), default=None)
            if newest is not None:
                return newest
        return None

    def _on(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (in_month or in_week if self.either_day else in_month and in_week)

    @staticmethod
    def _at(day: date, hour: int, minute: int, zone: tzinfo) -> datetime:
        return datetime.combine(day, time(hour, minute), zone).astimezone(UTC)


def _days_back(newest: date, oldest: date) -> Iterator[date]:
    for back in range((newest - oldest).days + 1):
        yield newest - timedelta(days=back)


def _field(name: str, text: str) -> frozenset[int]:
    return frozenset(number for part in text.split(",") for number in _part(name, part))


def _part(name: str, text: str) -> range:
    span, slash, step = text.partition("/")
    low, high = _RANGES[name]
    if span != "*":
        start, dash, end = span.partition("-")
        first = _number(name, start)
        last = _number(name, end) if dash else high if slash else first
        if last < first:
            raise ValueError(f"the {name} {text!r} ends before it begins")
        low, high = first, last
    if slash and not (step.isascii() and step.isdecimal() and int(step)):
        raise ValueError(f"the {name} {text!r} has no whole number as its step")
    return range(low, high + 1, int(step) if slash else 1)


def _number(name: str, text: str) -> int:
    low, high = _RANGES[name]
    known = _NAMES.get(name, {}).get(text.lower())
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else known
    if number is None or not low <= number <= high:
        raise ValueError(f"{text!r} is no {name}, {low} to {high}")
    return number
