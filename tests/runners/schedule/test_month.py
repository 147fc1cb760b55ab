"""A month of real data at speed: the decisions are the expected ones, and no storm of runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from components.lineage.store import open_store
from components.lineage.ticks import ticks
from components.profiler.spawn import Outcome
from runners.local.lock import exclusive
from schemas.load import load_config
from tests.runners.schedule.month import FIRST, Month
from tests.workbench import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden"
BY_SPANS = {"new_span": True}
SPARING = {
    "new_rows": 1800,
    "drift": True,
    "decayed_quality": {
        "metric": "binary_accuracy",
        "max_drop": 0.05,
        "min_examples": 250,
        "labelled": ["tips", "fare"],
    },
}


def play(month: Month) -> None:
    """November: what upstream delivers, and two ticks a day, but for what goes wrong.

    From the 11th a feature comes in other units, until the 13th, when both days come again. Nothing comes from the 15th to
    the 20th but the 14th once more, with the same rows, and a day of October that is too late for any window. The 18th is
    late. From the 26th passengers no longer tip.
    """
    for day in range(1, 31):
        deliver(month, day)
        if day == 29:
            continue  # nobody ticks
        if day == 8:
            with exclusive(month.watch.root):
                month.tick(day, 2)
        elif day == 6:
            month.die = True
            month.tick(day, 2)
            month.restarted()
        else:
            month.tick(day, 2)
        if day == 9:
            month.tick(day - 1, 14)  # the clock is set back
        month.tick(day, 14)


def deliver(month: Month, day: int) -> None:
    """What arrives at one o'clock."""
    upstream = month.upstream
    if not 15 <= day <= 20:
        upstream.deliver(day, rows=60 if day == 21 else 300, metres=day in (11, 12), tips=day < 26)
    if day == 13:
        upstream.deliver(11, 2)
        upstream.deliver(12, 2)
    if day == 22:
        upstream.deliver(18)
    if day == 17:
        upstream.deliver(14, 2)
    if day == 19:
        upstream.deliver(-3)


def as_expected(month: Month, name: str, *, renew: bool) -> None:
    """Every decision, in words, is the one in the golden file; and all of them are in the lineage."""
    told = [re.sub(r" \(process \d+\)", "", line) for line in month.told]
    recorded = ticks(open_store(month.loaded.config.metadata, read_only=True), "taxi")
    assert [tick.decision.verdict for tick in reversed(recorded)] == [tick.decision.verdict for tick in month.ticks]
    file = GOLDEN / f"month_{name}.txt"
    if renew:
        file.write_text("\n".join(told) + "\n")
    assert told == file.read_text().splitlines()


def words(month: Month, when: str) -> str:
    """What the tick at that time told."""
    (line,) = [line for line in month.told if line.startswith(when)]
    return line[len(when) + 1 :]


def test_by_spans(tmp_path: Path, renew: bool) -> None:
    """Each arrival begins one run, after the cool-down; broken data one that is blocked, and their repair one that is not."""
    month = Month(tmp_path / "taxi", BY_SPANS, {"cool_down": "36h"})
    play(month)
    assert month.runs == [
        ("01 02:00", "pushed"),
        ("02 14:00", "pushed"),
        ("04 02:00", "pushed"),
        ("05 14:00", "pushed"),
        ("07 14:00", "pushed"),  # the first attempt was killed
        ("09 02:00", "pushed"),
        ("10 14:00", "pushed"),
        ("12 02:00", "data_blocked"),  # metres, which the data gate says
        ("13 14:00", "pushed"),  # both days came again
        ("15 02:00", "pushed"),
        ("21 02:00", "pushed"),
        ("22 14:00", "pushed"),  # and the one that was late
        ("24 02:00", "pushed"),
        ("25 14:00", "pushed"),
        ("27 02:00", "pushed"),
        ("28 14:00", "pushed"),
        ("30 02:00", "pushed"),
    ]
    assert words(month, "30 14:00") == "did not retrain: no new span, last run 12 h ago"
    same = "span 20406 (2025-11-14) came again as version 2 with the rows that were read before"
    assert words(month, "17 02:00") == f"did not retrain: {same}, last run 2 d ago"
    assert "span 20389 (2025-10-28) arrived too late for the window" in words(month, "19 02:00")
    assert "span 20410 (2025-11-18) arrived late" in words(month, "22 14:00")
    as_expected(month, "by_spans", renew=renew)


def test_sparing(tmp_path: Path, renew: bool) -> None:
    """Enough rows, the season, decayed quality; of broken data one run a day that is blocked; noise and a quiet week none."""
    month = Month(tmp_path / "taxi", SPARING, {"cool_down": "12h"})
    play(month)
    assert month.runs == [
        ("06 14:00", "pushed"),  # enough rows; the first attempt was killed
        ("11 02:00", "data_blocked"),  # metres, which drift and the data gate say
        ("12 02:00", "data_blocked"),  # twice as many of them
        ("22 02:00", "pushed"),  # the season, after the quiet week
        ("26 02:00", "pushed"),  # nobody tips any more
        ("27 02:00", "pushed"),  # and the rows of before outweighed that
    ]
    assert words(month, "11 02:00") == "retrains: drift of trip_miles 0.0834 > 0.02 -> data_blocked"
    assert "and it has not grown by 10% since" in words(month, "11 14:00")
    assert words(month, "26 02:00").startswith(
        "retrains: binary_accuracy of version 2 on 1,200 newly labelled rows is 0.8"
    )
    assert "lies inside the noise" in words(month, "23 02:00")
    as_expected(month, "sparing", renew=renew)


def test_a_month_without_data(tmp_path: Path) -> None:
    """Is told of at each tick, and begins nothing; so is a file whose name holds no day."""
    month = Month(tmp_path / "taxi", BY_SPANS)
    for day in range(1, 4):
        assert "did not retrain: the data cannot be looked at: " in month.tick(day, 2).decision.verdict
    assert "has no span: no file matches" in month.told[-1]
    stray = month.folder / "spans" / "2025-13-01"
    stray.mkdir(parents=True)
    (stray / "v1.csv").write_text("x\n")
    assert "its path holds no date" in month.tick(4, 2).decision.verdict
    assert month.runs == []


def test_a_backfill_looks_back(tmp_path: Path) -> None:
    """A run on an earlier window, though it is the newest, makes nothing of the later spans new."""
    month = Month(tmp_path / "taxi", BY_SPANS)
    for day in (1, 2, 3):
        month.upstream.deliver(day)
    month.tick(3, 2)
    month.now += timedelta(hours=1)
    month.record(upto=FIRST)
    assert month.runs == [("03 02:00", "pushed"), ("03 03:00", "pushed")]
    assert month.tick(3, 14).decision.verdict == "did not retrain: no new span, last run 12 h ago"


def test_a_span_that_is_gone(tmp_path: Path) -> None:
    """A file that was misdated, trained on and removed is not what later deliveries are held against."""
    month = Month(tmp_path / "taxi", {"new_span": True, "new_rows": 500})
    misdated = month.upstream.folder / "2062-11-03"
    for day in (1, 2):
        month.upstream.deliver(day)
    assert month.tick(2, 2).outcome == "pushed"
    month.upstream.deliver((date(2062, 11, 3) - FIRST).days + 1, of=3)
    assert month.tick(3, 2).outcome == "pushed"
    shutil.rmtree(misdated)
    after = month.tick(3, 14)
    assert after.decision.verdict == "did not retrain: no new span, 0 of 500 new rows, last run 12 h ago"
    month.upstream.deliver(3)
    assert month.tick(4, 2).decision.verdict == "retrains: span 20395 (2025-11-03) has arrived"


def test_a_source_that_has_other_spans_now(tmp_path: Path) -> None:
    """Runs on dates do not stay the newest where the spans have become numbers, or there are none."""
    month = Month(tmp_path / "taxi", {"changed_data": True})
    numbers = tmp_path / "taxi" / "numbers"
    numbers.mkdir()
    for day in (1, 2):
        month.upstream.deliver(day)
        assert month.tick(day, 2).outcome == "pushed"
        shutil.copy(month.upstream.folder / f"2025-11-0{day}" / "v1.csv", numbers / f"{day}.csv")
    month.upstream.deliver(3)
    shutil.copy(month.upstream.folder / "2025-11-03" / "v1.csv", numbers / "3.csv")
    file, same = tmp_path / "taxi" / "satisfice.yaml", "did not retrain: the data are those of the last run, last run"
    month.loaded = load_config(file, ["data.source.path=numbers/{SPAN}.csv"])
    month.restarted()
    assert month.tick(3, 2).outcome == "pushed"
    assert month.tick(3, 14).decision.verdict == f"{same} 12 h ago"
    month.loaded = load_config(file, ["data.source={format: csv, path: numbers/*.csv}"])
    month.restarted()
    assert month.tick(4, 2).decision.verdict == f"{same} 1 d ago"


def test_a_backfill_stands_for_no_run_of_the_schedule(tmp_path: Path) -> None:
    """A run that failed is begun again though a backfill came after it, and a backfill begins no cool-down."""
    month = Month(tmp_path / "taxi", BY_SPANS, {"cool_down": "6h", "retry_failed": "12h"})
    start = month.watch.start
    for day in (1, 2):
        month.upstream.deliver(day)
        assert month.tick(day, 2).outcome == "pushed"
    month.upstream.deliver(3)
    month.watch.start = lambda _: month.record(fails=True)
    assert month.tick(3, 2).outcome == "failed"
    month.watch.start = start
    month.now += timedelta(hours=11)
    month.record(upto=FIRST)
    again = month.tick(3, 14)
    assert (again.decision.fired, again.outcome) == (("new_span",), "pushed")
    month.now += timedelta(hours=1)
    month.record(upto=FIRST + timedelta(days=1), fails=True)
    assert month.tick(4, 4).decision.reasons[-1] == "last run 14 h ago"


def test_rows_of_another_version(tmp_path: Path) -> None:
    """Of a span that the model was made of count with their eval split alone; those of a new span all do."""
    month = Month(tmp_path / "taxi", {**SPARING, "new_rows": 600})
    month.upstream.deliver(1)
    month.upstream.deliver(2)
    assert month.tick(2, 2).outcome == "pushed"
    month.upstream.deliver(2, 2, of=9)
    month.upstream.deliver(3)
    jobs: list[Mapping[str, Any]] = []
    evaluate = month.watch.evaluate
    assert evaluate is not None

    def kept(job: Mapping[str, Any]) -> Outcome:
        jobs.append(job)
        return evaluate(job)

    month.watch.evaluate = kept
    quality = month.tick(3, 2).looked.quality
    assert [Path(file).parent.name for file in jobs[0]["grown"]] == ["2025-11-02"]
    assert [Path(file).parent.name for file in jobs[0]["files"]] == ["2025-11-03"]
    assert quality is not None
    assert 330 < (quality.n or 0) < 400  # 300 and about two of ten of 300
