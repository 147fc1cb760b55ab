"""Which spans have arrived: new, late, again, the same once more, too late."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from components.example_gen.spans import Span, Window, versions_of
from runners.schedule.arrivals import Held, arrivals, runs_of
from schemas.source_path import EPOCH
from schemas.tick import Arrival

FIRST = 20400


def span(number, content, version=None):
    """A span of one file, whose content is that of its name."""
    return Span(number, EPOCH + timedelta(days=number), version, (Path(f"/{number}-{content}"),))


def found(*spans, held=(), older=(), before=None):
    """What arrived: what is read now, what was read before."""
    digests = {file: file.name.partition("-")[2] for one in spans for file in one.files}
    read = Held({number: version for number, version, _ in held}, frozenset(content for _, _, content in held))
    return {one.number: one.how for one in arrivals(Window(tuple(spans)), digests, read, older, before)}


def test_new_and_late_and_again():
    """By what the newest run had read, and by the newest span in it."""
    spans = [span(FIRST, "a"), span(FIRST + 1, "b"), span(FIRST + 2, "x", 2), span(FIRST + 3, "d")]
    held = [(FIRST, None, "a"), (FIRST + 2, 1, "c")]
    assert found(*spans, held=held) == {FIRST + 1: "late", FIRST + 2: "again", FIRST + 3: "new"}


def test_the_same_rows_once_more():
    """Under another version, or as another span, are nothing to train on; read as they stand they are not told of."""
    held = [(FIRST, 1, "a"), (FIRST + 1, 1, "b")]
    assert found(span(FIRST, "a", 2), span(FIRST + 1, "b", 1), span(FIRST + 2, "b", 1), held=held) == {
        FIRST: "same",
        FIRST + 2: "same",
    }


def test_too_late_for_the_window():
    """Is told of once: at the tick that first finds it, and never at the first tick of all."""
    spans, older = [span(FIRST + 5, "f")], ((FIRST - 9, FIRST + 2), (FIRST + 4, FIRST + 4))
    held = [(FIRST + 5, None, "f")]
    assert found(*spans, held=held, older=older, before=None) == {}
    assert found(*spans, held=held, older=older, before=((FIRST - 9, FIRST), (FIRST + 4, FIRST + 4))) == {
        FIRST + 1: "outside",
        FIRST + 2: "outside",
    }
    assert found(*spans, held=held, older=older, before=older) == {}


@pytest.mark.parametrize(
    ("how", "version", "told"),
    [
        ("new", None, "span 20401 (2025-11-09) has arrived"),
        ("late", None, "span 20401 (2025-11-09) arrived late"),
        ("again", 2, "span 20401 (2025-11-09) came again as version 2"),
        ("again", None, "span 20401 (2025-11-09) came again with other rows"),
        ("same", 2, "span 20401 (2025-11-09) came again as version 2 with the rows that were read before"),
        ("outside", None, "span 20401 (2025-11-09) arrived too late for the window"),
    ],
)
def test_in_words(how, version, told):
    """Number and date."""
    day = date(2025, 11, 9)
    assert Arrival(number=20401, name=day.isoformat(), version=version, how=how).told == told


def test_spans_of_files_that_were_read():
    """By their paths; what lies elsewhere is passed over, and of several versions the newest counts."""
    files = ["/d/span-3/v1/x.csv", "/d/span-3/v2/x.csv", "/d/span-4/v1/x.csv", "/e/span-9/v1/x.csv"]
    assert versions_of("/d/span-{SPAN}/v{VERSION}/x.csv", map(Path, files)) == {3: 2, 4: 1}


def test_runs_of_numbers():
    """In whatever order they come."""
    assert runs_of([]) == ()
    assert runs_of([5, 3, 4, 9]) == ((3, 5), (9, 9))
