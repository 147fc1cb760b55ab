"""What a source's path says of spans, dates and versions, in TFX's placeholders.

`{SPAN}` is a number, `{SPAN:3}` one of exactly three digits; `{YYYY}`, `{MM}` and `{DD}` are a date, whose span is the number
of days since 1970-01-01; `{VERSION}` and `{VERSION:2}` tell deliveries of one span apart. Other braces are part of a name.

Source: https://www.tensorflow.org/tfx/guide/examplegen#span, and `tfx/components/example_gen/utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

__all__ = ["EPOCH", "SpanName", "SpanPath", "parse_span", "spell_span", "uses_spans"]

EPOCH = date(1970, 1, 1)
"""The day of span 0."""

SpanName = int | str
"""A span as a person writes it: its number, or its date as `YYYY-MM-DD`."""

_PLACEHOLDER = re.compile(r"\{(SPAN|YYYY|MM|DD|VERSION)(?::([^}]*))?\}")
_DATE = ("YYYY", "MM", "DD")
_DIGITS = {"YYYY": 4, "MM": 2, "DD": 2}
_MOST_DIGITS = 18
"""What a whole number of ML Metadata holds in any case."""
_OPEN = "*"


def uses_spans(path: str) -> bool:
    """True where a source path holds a span, date or version placeholder."""
    return bool(_PLACEHOLDER.search(path))


@dataclass(frozen=True)
class SpanPath:
    """A source's path, taken apart.

    Attributes:
        path: as it was written.
        parts: what stands between the placeholders, one more than those.
        names: of the placeholders, in the path's order.
        widths: how many digits each has; None for any number.
    """

    path: str
    parts: tuple[str, ...]
    names: tuple[str, ...]
    widths: tuple[int | None, ...]

    @classmethod
    def parse(cls, path: str) -> SpanPath:
        """Takes a path apart.

        Raises:
            ValueError: with two arguments, what is wrong and what was expected.
        """
        found = list(_PLACEHOLDER.finditer(path))
        names = tuple(match[1] for match in found)
        _check_names(names)
        widths = tuple(_width(match[0], match[1], match[2]) for match in found)
        ends = [0, *(match.end() for match in found)]
        starts = [*(match.start() for match in found), len(path)]
        parts = tuple(path[end:start] for end, start in zip(ends, starts, strict=True))
        parsed = cls(path, parts, names, widths)
        for fault in parsed._open_ends():
            raise fault
        return parsed

    @property
    def has_dates(self) -> bool:
        """Whether a span is a date."""
        return "YYYY" in self.names

    @property
    def glob(self) -> str:
        """The path with `*` for each placeholder."""
        return _OPEN.join(self.parts)

    def _open_ends(self) -> Iterator[ValueError]:
        for index, (name, width) in enumerate(zip(self.names, self.widths, strict=True)):
            before, after = self.parts[index], self.parts[index + 1]
            ends = before.endswith((_OPEN, "?", "]")) or after.startswith((_OPEN, "?", "["))
            meets = not after and index + 1 < len(self.names) and self.widths[index + 1] is None
            meets = meets or (not before and index > 0)
            if width is None and (ends or meets):
                yield ValueError(
                    f"nothing tells where the number of {{{name}}} begins or ends",
                    f"a width, as in {{{name}:4}}, or a text beside it",
                )


def _check_names(names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {{{twice[0]}}} more than once", "each placeholder once")
    dated = [name for name in _DATE if name in names]
    if "SPAN" in names and dated:
        raise ValueError(f"has both {{SPAN}} and {{{dated[0]}}}", "a span's number or its date, not both")
    if dated and len(dated) < len(_DATE):
        missing = ", ".join(f"{{{name}}}" for name in _DATE if name not in dated)
        raise ValueError(f"lacks {missing} of a date", "{YYYY}, {MM} and {DD}")
    if "VERSION" in names and not dated and "SPAN" not in names:
        raise ValueError("has {VERSION} without a span", "{SPAN}, or {YYYY}, {MM} and {DD}, beside it")


def _width(text: str, name: str, width: str | None) -> int | None:
    if name in _DIGITS:
        if width is not None:
            raise ValueError(f"gives a width to {{{name}}}", f"{{{name}}}, which has {_DIGITS[name]} digits")
        return _DIGITS[name]
    if width is None:
        return None
    if not re.fullmatch(r"[0-9]{1,3}", width) or not 0 < int(width) <= _MOST_DIGITS:
        raise ValueError(f"{text} has no width", f"a whole number from 1 to {_MOST_DIGITS}")
    return int(width)


def parse_span(name: SpanName, *, dates: bool) -> int:
    """The number of a span.

    Args:
        name: its number, or its date.
        dates: whether the source's spans are dates; only then is a date one of them.

    Raises:
        ValueError: with two arguments, what is wrong and what was expected.

    >>> parse_span("1970-01-08", dates=True)
    7
    """
    expected = "a date as YYYY-MM-DD" if dates else "a whole number, 0 or more"
    text = str(name)
    if dates and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return (date.fromisoformat(text) - EPOCH).days
        except ValueError as error:
            raise ValueError(f"is no date ({error})", expected) from error
    if re.fullmatch(r"\d+", text, re.ASCII) and len(text) <= _MOST_DIGITS and not dates:
        return int(text)
    raise ValueError("is no span of this path", expected)


def spell_span(number: int, *, dates: bool) -> str:
    """A span as a person reads it.

    >>> spell_span(7, dates=True), spell_span(7, dates=False)
    ('1970-01-08', '7')
    """
    return (EPOCH + timedelta(days=number)).isoformat() if dates else str(number)
