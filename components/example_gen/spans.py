"""Which spans a source has, and which of them a run reads. Imports nothing that takes time.

A span is a delivery of rows, by number or by day; of a span that was delivered in several versions the newest counts.
"""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from components.example_gen.source_files import find_files, open_file
from schemas.config import SourceConfig
from schemas.errors import DataError, shorten
from schemas.source_path import EPOCH, SpanPath, uses_spans

__all__ = ["Span", "Window", "files_of", "find_spans", "name_like", "versions_of", "window", "window_of"]

_SHOWN = 5


@dataclass(frozen=True)
class Span:
    """The newest version of a span.

    Attributes:
        number: of the span; for a date the days since 1970-01-01.
        date: of the span; None where the path has no dates.
        version: None where the path has no versions.
        files: sorted, at least one.
    """

    number: int
    date: date | None
    version: int | None
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The span as a person writes it.

        >>> Span(7, None, None, ()).name, Span(7, date(1970, 1, 8), None, ()).name
        ('7', '1970-01-08')
        """
        return self.date.isoformat() if self.date else str(self.number)


@dataclass(frozen=True)
class Window:
    """The spans that a run reads, and those that it would have read.

    Attributes:
        spans: ascending, at least one; the last is the one at which the window ends.
        missing: runs of numbers within the window that have no data although an earlier span has.
        short: how many spans the window lacks before the first span that there is.
    """

    spans: tuple[Span, ...]
    missing: tuple[range, ...] = ()
    short: int = 0

    @property
    def newest(self) -> Span:
        """The span at which the window ends."""
        return self.spans[-1]

    @property
    def files(self) -> tuple[Path, ...]:
        """Of all spans, in their order."""
        return tuple(file for span in self.spans for file in span.files)

    def __str__(self) -> str:
        """The spans, each with its version: part of the key under which what is read is cached.

        >>> str(Window((Span(3, None, 2, ()), Span(4, None, 1, ()))))
        '3 v2, 4 v1'
        """
        return ", ".join(
            f"{span.name} v{span.version}" if span.version is not None else span.name for span in self.spans
        )

    @property
    def missing_names(self) -> tuple[str, ...]:
        """The missing spans as a person writes them, such as `3` or `5 to 9`."""
        ends = [[name_like(number, self.newest) for number in sorted({run[0], run[-1]})] for run in self.missing]
        return tuple(" to ".join(run) for run in ends)


def files_of(source: SourceConfig) -> list[Path]:
    """The files that a run reads: those of its window, or all that match where the path has no spans.

    Raises:
        DataError: as `find_files`, `find_spans` and `window`.
    """
    found = window_of(source)
    return find_files(source.path) if found is None else list(found.files)


def window_of(source: SourceConfig, upto: int | None = None) -> Window | None:
    """The spans that a run reads; None where the path has none.

    Args:
        source: the configuration's section.
        upto: number of the span at which it ends; None for that which the section names, or the newest.

    Raises:
        DataError: as `find_spans` and `window`.
    """
    if not uses_spans(source.path):
        return None
    last = source.last_span if upto is None else upto
    return window(find_spans(source.path), source.window.last_spans if source.window else None, last)


def find_spans(pattern: str) -> tuple[Span, ...]:
    """All spans of a source, ascending, each in its newest version.

    Args:
        pattern: an absolute path with `{SPAN}`, or `{YYYY}`, `{MM}` and `{DD}`; `{VERSION}`, `*`, `?`, `[..]` and `**` besides.

    Raises:
        ValueError: the pattern is none, as `SpanPath.parse` says.
        DataError: no file matches; one matches without a number or a date where that should stand; or two texts
            stand for one number.
    """
    path = SpanPath.parse(pattern)
    if not path.names:
        raise ValueError("has no span", "{SPAN}, or {YYYY}, {MM} and {DD}")
    files = sorted(match for match in glob.glob(path.glob, recursive=True) if not os.path.isdir(match))
    if not files:
        raise _no_data(path)
    versions: dict[int, dict[int | None, list[Path]]] = defaultdict(lambda: defaultdict(list))
    spelled: dict[str, str] = {}
    read = _Reader(path)
    for file in files:
        number, version, texts = read.of(file)
        for what, text in texts.items():
            if spelled.setdefault(what, text) != text:
                raise _two_texts(file, what, spelled[what], text)
        versions[number][version].append(Path(file))
    return tuple(_newest(number, versions[number], path.has_dates) for number in sorted(versions))


def window(spans: Sequence[Span], last_spans: int | Literal["all"] | None = None, upto: int | None = None) -> Window:
    """The spans that a run reads.

    Args:
        spans: all that there are, ascending, at least one.
        last_spans: how many numbers (days) the window covers, the one at which it ends included; `all` for every span up
            to that one; None for that one alone, as stock TFX reads.
        upto: number of the span at which it ends; None for the newest.

    Raises:
        DataError: there is no such span, or one of its files cannot be opened.
    """
    last = spans[-1].number if upto is None else upto
    if all(span.number != last for span in spans):
        raise _no_span(spans, last)
    first_known = spans[0].number
    first = first_known if last_spans == "all" else last - (last_spans or 1) + 1
    chosen = tuple(span for span in spans if first <= span.number <= last)
    missing = _gaps(chosen, max(first, first_known))
    for span in chosen:
        for file in span.files:
            with open_file(file):
                pass
    return Window(chosen, missing, max(0, first_known - first))


def _gaps(spans: Sequence[Span], first: int) -> tuple[range, ...]:
    """The runs of numbers, from `first` to the last span, of which there is no span."""
    starts = [first, *(span.number + 1 for span in spans)]
    runs = [range(start, span.number) for start, span in zip(starts, spans, strict=False)]
    return tuple(run for run in runs if run)


def _newest(number: int, versions: dict[int | None, list[Path]], dates: bool) -> Span:
    version = max(versions, key=lambda one: -1 if one is None else one)
    day = EPOCH + timedelta(days=number) if dates else None
    return Span(number, day, version, tuple(versions[version]))


def versions_of(pattern: str, files: Iterable[Path]) -> dict[int, int | None]:
    """Number and newest version of each span that some files belong to, whether or not they are there.

    Args:
        pattern: as `find_spans` takes it.
        files: those that do not match are passed over.
    """
    read, found = _Reader(SpanPath.parse(pattern)), dict[int, int | None]()
    for file in files:
        try:
            number, version, _ = read.of(str(file))
        except DataError:
            continue
        known = found.setdefault(number, version)
        found[number] = version if known is None or (version is not None and version > known) else known
    return found


# --- one path ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the placeholders out of paths."""

    def __init__(self, path: SpanPath) -> None:
        digits = [rf"([0-9]{{{width}}})" if width else "([0-9]{1,18})" for width in path.widths]
        self._exact = _regex(path.parts, digits)
        self._loose = _regex(path.parts, ["([^/]*)"] * len(path.names))
        self._path = path

    def of(self, file: str) -> tuple[int, int | None, dict[str, str]]:
        """The numbers of its span and of its version, and how the path spells them.

        Raises:
            DataError: there are none.
        """
        found = self._exact.fullmatch(file)
        if found is None:
            raise self._malformed(file)
        texts = dict(zip(self._path.names, found.groups(), strict=True))
        number = self._day(file, texts) if self._path.has_dates else int(texts["SPAN"])
        version = int(texts["VERSION"]) if "VERSION" in texts else None
        spelled = {} if self._path.has_dates else {f"span {number}": texts["SPAN"]}
        if version is not None:
            spelled[f"version {version} of span {number}"] = texts["VERSION"]
        return number, version, spelled

    def _day(self, file: str, texts: dict[str, str]) -> int:
        text = "-".join(texts[name] for name in ("YYYY", "MM", "DD"))
        try:
            return (date.fromisoformat(text) - EPOCH).days
        except ValueError as error:
            raise DataError(
                file,
                "its path holds no date",
                expected="a day that there is",
                got=f"{text} ({error})",
                remedy="Rename the file, or narrow data.source.path so that it is left out.",
            ) from error

    def _malformed(self, file: str) -> DataError:
        found = self._loose.fullmatch(file)
        texts = found.groups() if found else ("",) * len(self._path.names)
        wrong = [
            (name, width, text)
            for name, width, text in zip(self._path.names, self._path.widths, texts, strict=True)
            if not re.fullmatch(rf"[0-9]{{{width}}}" if width else "[0-9]{1,18}", text)
        ]
        name, width, text = (wrong or [(self._path.names[0], self._path.widths[0], "")])[0]
        return DataError(
            file,
            f"matches the pattern, but has no number for {{{name}}}",
            expected=f"{width} digits" if width else "digits",
            got=repr(shorten(text)),
            remedy="Rename or move the file, or narrow data.source.path so that it is left out.",
        )


def _regex(parts: Sequence[str], groups: Sequence[str]) -> re.Pattern[str]:
    """What matches the paths that the parts match as glob patterns, with a group between each two of them."""
    pieces = [_glob_regex(part) for part in parts]
    return re.compile("".join(text for pair in zip(pieces, [*groups, ""], strict=True) for text in pair), re.DOTALL)


_GLOB = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]")


def _glob_regex(pattern: str) -> str:
    r"""A glob pattern as a regular expression, as `glob.glob(recursive=True)` means it.

    >>> _glob_regex("a/**/b-*.csv")
    'a/(?:.*/)?b\\-[^/]*\\.csv'
    """
    regex, end = [], 0
    for match in _GLOB.finditer(pattern):
        regex += [re.escape(pattern[end : match.start()]), _wildcard(match[0])]
        end = match.end()
    return "".join([*regex, re.escape(pattern[end:])])


def _wildcard(text: str) -> str:
    if text.startswith("["):
        inner = text[1:-1].replace("\\", "\\\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner.replace('^', chr(92) + '^')}]"
    known = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return known.get(text, ".*")


# --- faults -----------------------------------------------------------------------------------------------------------


def _no_data(path: SpanPath) -> DataError:
    """The fault of a pattern without files: what stands in the folder nearest to it."""
    folder = Path(path.glob)
    while not folder.is_dir() or _is_open(str(folder)):
        folder = folder.parent
    names = sorted(entry.name for entry in folder.iterdir()) if os.access(folder, os.R_OK) else []
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    held = f"{', '.join(names[:_SHOWN])}{more}" if names else "nothing"
    return DataError(
        path.path,
        "has no span: no file matches",
        got=f"in {folder}: {held}",
        remedy="Check data.source.path; a relative path is relative to the configuration file.",
    )


def _is_open(path: str) -> bool:
    return glob.has_magic(path)


def _two_texts(file: str, what: str, one: str, other: str) -> DataError:
    return DataError(
        file,
        f"{what} stands under two names",
        expected="one spelling of a number",
        got=f"{one!r} and {other!r}",
        remedy="Rename the files of one of them; a width in the pattern, as in {SPAN:3}, allows one spelling only.",
    )


def _no_span(spans: Sequence[Span], number: int) -> DataError:
    near = sorted(spans, key=lambda span: abs(span.number - number))[:_SHOWN]
    return DataError(
        f"span {name_like(number, spans[0])}",
        "has no data",
        expected=f"one of the {len(spans)} spans from {spans[0].name} to {spans[-1].name}",
        got=f"nearest to it: {_listed(sorted(near, key=lambda span: span.number))}",
        remedy="Name another span, or wait until it has arrived.",
    )


def _listed(spans: Iterable[Span]) -> str:
    return ", ".join(span.name for span in spans)


def name_like(number: int, like: Span) -> str:
    """How the span of that number is written where `like` is another one of the source."""
    return (EPOCH + timedelta(days=number)).isoformat() if like.date else str(number)
