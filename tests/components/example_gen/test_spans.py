"""A pattern's spans are what TFX finds in it, each in its newest version, and whatever is no span is named."""

import os
import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfx.components.example_gen import utils
from tfx.proto import example_gen_pb2

from components.example_gen.spans import Span, find_spans, window
from schemas.errors import DataError
from schemas.source_path import parse_span, spell_span


@pytest.fixture
def made(tmp_path):
    """Makes files below a folder, and gives the spans of a pattern there."""

    def make(pattern: str, *names: str):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return find_spans(str(tmp_path / pattern))

    return make


def names_of(spans):
    return [(span.number, span.version, [path.name for path in span.files]) for span in spans]


@pytest.mark.parametrize(
    ("pattern", "files", "found"),
    [
        ("d-{SPAN}.csv", ["d-2.csv", "d-10.csv", "d-1.txt"], [(2, None, ["d-2.csv"]), (10, None, ["d-10.csv"])]),
        ("d-{SPAN:3}.csv", ["d-002.csv", "d-010.csv"], [(2, None, ["d-002.csv"]), (10, None, ["d-010.csv"])]),
        ("{SPAN:2}{VERSION:2}.csv", ["0701.csv", "0702.csv"], [(7, 2, ["0702.csv"])]),
        ("s{SPAN}/*.csv", ["s1/b.csv", "s1/a.csv", "s2/a.csv"], [(1, None, ["a.csv", "b.csv"]), (2, None, ["a.csv"])]),
        ("s{SPAN}/v{VERSION}/*", ["s1/v2/a", "s1/v10/b", "s1/v10/c", "s2/v1/d"], [(1, 10, ["b", "c"]), (2, 1, ["d"])]),
        ("**/s{SPAN}/**/*", ["x/s3/y/z/a", "s3/b"], [(3, None, ["b", "a"])]),
        ("*-{SPAN}.csv", ["a-1-2.csv"], [(2, None, ["a-1-2.csv"])]),
        ("[ab]-{SPAN}.csv", ["a-1.csv", "b-1.csv", "c-1.csv"], [(1, None, ["a-1.csv", "b-1.csv"])]),
    ],
)
def test_patterns(made, pattern, files, found):
    """Numbers with and without a width, versions, and wildcards beside them; ascending, files sorted by path."""
    assert names_of(made(pattern, *files)) == found


@pytest.mark.parametrize("pattern", ["{YYYY}-{MM}-{DD}.csv", "{YYYY}{MM}{DD}.csv", "{DD}.{MM}.{YYYY}.csv"])
def test_dates(made, pattern):
    """A day's number is that of TFX: days since 1970-01-01."""
    days = [date(2026, 2, 28), date(2026, 3, 1), date(1970, 1, 1)]
    spell = pattern.replace("{YYYY}", "%Y").replace("{MM}", "%m").replace("{DD}", "%d")
    spans = made(pattern, *(day.strftime(spell) for day in days))
    assert [span.date for span in spans] == sorted(days)
    assert [span.number for span in spans] == [utils.date_to_span_number(*day.timetuple()[:3]) for day in sorted(days)]
    assert [span.name for span in spans] == [day.isoformat() for day in sorted(days)]


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("d-{SPAN}.csv", ["d-9.csv", "d-10.csv"]),
        ("d-{SPAN:3}/v{VERSION}/*.csv", ["d-009/v1/a.csv", "d-010/v2/a.csv", "d-010/v11/a.csv"]),
        ("{YYYY}/{MM}/{DD}/{VERSION:2}.csv", ["2026/11/03/01.csv", "2026/11/04/02.csv", "2026/11/04/01.csv"]),
    ],
)
def test_newest_is_that_of_tfx(made, tmp_path, pattern, files):
    """TFX's own ExampleGen would read the same span in the same version."""
    newest = made(pattern, *files)[-1]
    split = example_gen_pb2.Input.Split(name="all", pattern=pattern)
    assert utils._get_target_span_version(str(tmp_path), split) == (newest.number, newest.version)


@pytest.mark.parametrize(
    ("pattern", "files", "message"),
    [
        (
            "d-{SPAN}.csv",
            ["d-x.csv", "d-1.csv"],
            "matches the pattern, but has no number for {SPAN}; expected digits; got",
        ),
        ("d-{SPAN:3}.csv", ["d-07.csv"], "has no number for {SPAN}; expected 3 digits; got '07'"),
        ("d-{SPAN}.csv", ["d-.csv"], "has no number for {SPAN}; expected digits; got ''"),
        ("d-{SPAN}.csv", ["d--1.csv"], "has no number for {SPAN}"),
        ("d-{SPAN}.csv", ["d-٣.csv"], "has no number for {SPAN}"),
        ("d-{SPAN}-{VERSION}", ["d-1-", "d-2-1"], "has no number for {VERSION}; expected digits"),
        ("{YYYY}-{MM}-{DD}", ["2026-02-30"], "its path holds no date; expected a day that there is; got 2026-02-30"),
        ("{YYYY}-{MM}-{DD}", ["2026-2-03"], "has no number for {MM}; expected 2 digits"),
        ("d-{SPAN}.csv", ["d-7.csv", "d-007.csv"], "span 7 stands under two names"),
        ("{SPAN}/{VERSION}", ["7/1", "7/01"], "version 1 of span 7 stands under two names"),
        ("{SPAN}/{VERSION}", ["7/1", "007/2"], "span 7 stands under two names"),
        ("{SPAN}.csv", ["1.txt", "2.txt"], ": has no span: no file matches; got in"),
        ("deep/{SPAN}/er.csv", ["other/1"], "other. Check data.source.path"),
    ],
)
def test_faults(made, pattern, files, message):
    """Nothing that stands where a span should is passed over in silence."""
    with pytest.raises(DataError) as raised:
        made(pattern, *files)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("{SPAN}/{SPAN:2}", "names {SPAN} more than once"),
        ("{SPAN}/{YYYY}-{MM}-{DD}", "has both {SPAN} and {YYYY}"),
        ("{YYYY}-{MM}", "lacks {DD} of a date"),
        ("{VERSION}.csv", "has {VERSION} without a span"),
        ("{SPAN:0}", "{SPAN:0} has no width"),
        ("{SPAN:x}", "{SPAN:x} has no width"),
        ("{SPAN:}", "{SPAN:} has no width"),
        ("{YYYY:4}-{MM}-{DD}", "gives a width to {YYYY}"),
        ("*{SPAN}", "nothing tells where the number of {SPAN} begins or ends"),
        ("{SPAN}{VERSION}", "nothing tells where the number of {SPAN} begins or ends"),
        ("data.csv", "has no span"),
    ],
)
def test_patterns_that_are_none(pattern, problem):
    """What is wrong with a pattern is said before any file is looked for."""
    with pytest.raises(ValueError, match=re.escape(problem)) as raised:
        find_spans(pattern)
    assert raised.value.args[1]


def test_window_with_holes(made):
    """A window counts numbers, not deliveries; what is missing is named, what was before the first span is counted."""
    spans = made("{SPAN}", "2", "3", "7", "8", "20")
    found = window(spans, 6, upto=8)
    assert [span.number for span in found.spans] == [3, 7, 8]
    assert found.newest.number == 8
    assert (found.missing, found.missing_names, found.short) == ((range(4, 7),), ("4 to 6",), 0)
    assert [file.name for file in found.files] == ["3", "7", "8"]
    assert window(spans, 4, upto=3).short == 2
    assert window(spans, None).spans == spans[-1:]
    assert window(spans, "all").missing_names == ("4 to 6", "9 to 19")
    assert window(spans, 2).missing_names == ("19",)


def test_window_that_ends_at_no_span(made):
    """The spans nearest to it are named."""
    spans = made("{YYYY}-{MM}-{DD}", "2026-11-01", "2026-11-02", "2026-11-04")
    with pytest.raises(DataError, match=r"span 2026-11-03: has no data; expected one of the 3 spans from 2026-11-01"):
        window(spans, 2, upto=spans[1].number + 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(made):
    """A file of the window that cannot be opened is named."""
    (span,) = made("{SPAN}", "1")
    span.files[0].chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        window((span,))


@given(numbers=st.sets(st.integers(-30, 30), min_size=1), last=st.integers(1, 70), data=st.data())
def test_windows_are_whole(numbers, last, data):
    """Every number of a window is read, missing, or before the first span."""
    spans = [Span(number, None, None, (Path(os.devnull),)) for number in sorted(numbers)]
    end = data.draw(st.sampled_from(sorted(numbers)))
    found = window(spans, last, end)
    read = [span.number for span in found.spans]
    gone = [number for run in found.missing for number in run]
    assert sorted([*read, *gone]) == list(range(end - last + 1 + found.short, end + 1))
    assert found.short == 0 or end - last + found.short + 1 == min(numbers)


@given(st.integers(0, 40_000), st.booleans())
def test_names_of_spans(number, dates):
    """What is spelled is read back."""
    assert parse_span(spell_span(number, dates=dates), dates=dates) == number


@pytest.mark.parametrize(
    ("name", "dates"), [("2026-02-30", True), (7, True), ("2026-11-03", False), (-1, False), ("", False)]
)
def test_no_names_of_spans(name, dates):
    """A date where spans are numbers, and the other way round."""
    with pytest.raises(ValueError, match="is no"):
        parse_span(name, dates=dates)
