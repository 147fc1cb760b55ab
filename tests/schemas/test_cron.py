"""Cron expressions: what they say, when they were due, and what is wrong with one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("cron", "until", "due"),
    [
        ("0 3 * * *", "2026-03-05 12:00", "2026-03-05 03:00"),
        ("0 3 * * *", "2026-03-05 03:00", "2026-03-05 03:00"),
        ("0 3 * * *", "2026-03-05 02:59", "2026-03-04 03:00"),
        ("*/20 * * * *", "2026-03-05 12:39", "2026-03-05 12:20"),
        ("5/20 1,2 * * *", "2026-03-05 12:00", "2026-03-05 02:45"),
        ("0 9-17/4 * * mon-fri", "2026-03-08 12:00", "2026-03-06 17:00"),
        ("0 0 * * 7", "2026-03-09 12:00", "2026-03-08 00:00"),
        ("0 0 13 * FRI", "2026-03-09 12:00", "2026-03-06 00:00"),
        ("0 0 13 * 5", "2026-03-19 12:00", "2026-03-13 00:00"),
        ("0 0 31 jan,mar *", "2026-03-05 12:00", "2026-01-31 00:00"),
        ("0 0 29 2 *", "2026-03-05 12:00", "2024-02-29 00:00"),
        ("0 0 */10 * *", "2026-03-20 12:00", "2026-03-11 00:00"),
    ],
)
def test_last_due(cron, until, due):
    """The newest time that matches."""
    assert Cron.parse(cron).last_due(at("2020-01-01 00:00"), at(until)) == at(due)


def test_nothing_was_due():
    """What was due at the beginning itself belongs to what came before."""
    assert Cron.parse("0 3 * * *").last_due(at("2026-03-05 03:00"), at("2026-03-06 02:59")) is None
    assert Cron.parse("0 3 * * *").last_due(at("2026-03-06 03:00"), at("2026-03-05 03:00")) is None


def test_clocks_of_a_zone():
    """02:30 is skipped in spring, and comes an hour later; in autumn it comes twice, and the first is meant."""
    cron = Cron.parse("30 2 * * *")
    spring = cron.last_due(at("2026-03-28 12:00"), at("2026-03-29 12:00"), BERLIN)
    assert spring == at("2026-03-29 01:30")
    assert spring.astimezone(BERLIN).hour == 3
    autumn = cron.last_due(at("2026-10-24 12:00"), at("2026-10-25 12:00"), BERLIN)
    assert autumn == at("2026-10-25 00:30")


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("", "has 0 fields"),
        ("0 0 3 * * *", "has 6 fields"),
        ("60 * * * *", "'60' is no minute, 0 to 59"),
        ("* * 0 * *", "'0' is no day of the month, 1 to 31"),
        ("* * * foo *", "'foo' is no month, 1 to 12"),
        ("* 5-3 * * *", "the hour '5-3' ends before it begins"),
        ("*/0 * * * *", "the minute '*/0' has no whole number as its step"),
        ("1, * * * *", "'' is no minute, 0 to 59"),
        ("0 0 31 2 *", "names a day that no month has"),
    ],
)
def test_what_is_wrong(cron, told):
    """Said in words."""
    with pytest.raises(ValueError, match=told.replace("*", r"\*")):
        Cron.parse(cron)


@given(
    st.integers(0, 59),
    st.lists(st.integers(0, 23), min_size=1, max_size=4),
    st.integers(0, 3 * 10**6).map(lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_as_a_walk_over_minutes_finds(minute, hours, after, span):
    """What is found is what every minute of the time, looked at one by one, has as its newest."""
    until = after + span
    start = after.replace(second=0, microsecond=0)
    minutes = [start + timedelta(minutes=one) for one in range(int(span / timedelta(minutes=1)) + 2)]
    expected = [one for one in minutes if after < one <= until and one.minute == minute and one.hour in hours]
    found = Cron.parse(f"{minute} {','.join(map(str, hours))} * * *").last_due(after, until)
    assert found == (expected[-1] if expected else None)
