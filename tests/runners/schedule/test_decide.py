"""What a tick decides, and in which words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.schedule.decide import ATTEMPTS, decide
from schemas.config import ScheduleConfig
from schemas.tick import Arrival, Drift, Looked, Memory, Quality, Run

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(cron=None, changed_data=False, new_rows=None, drift=False, new_span=False, quality=None, **others):
    triggers = {"cron": cron, "changed_data": changed_data, "new_rows": new_rows, "drift": drift}
    triggers |= {"new_span": new_span, "decayed_quality": quality}
    return ScheduleConfig.model_validate({"triggers": triggers, **others}, strict=False)


def run(started=NOON - 3 * HOUR, outcome="pushed"):
    return Run(run_id="r1", started=started, outcome=outcome)


def looked(at=NOON, data="new", trained_data="old", **others):
    return Looked.model_validate(
        {"at": at, "data": data, "trained_data": trained_data, "champion": 1, "last_run": run(), **others}
    )


def drift(value, limit=0.1):
    return Drift(
        feature="trip_miles", measure="jensen_shannon", value=value, limit=limit, excess=value / limit, reason="told"
    )


def arrived(*how):
    return tuple(Arrival(number=7 + place, name=str(7 + place), how=one) for place, one in enumerate(how))


def quality(shortfall, verdict="fail"):
    return Quality(metric="auc", value=0.7, verdict=verdict, shortfall=shortfall, reason="auc is 0.7")


QUALITY = {"metric": "auc", "max_drop": 0.02}


def memory(**others):
    return Memory.model_validate({"at": NOON - HOUR, "cron_from": NOON - HOUR, **others})


def test_why_not_in_words():
    """Every trigger says what it found, and the last run stands beside it."""
    config = schedule(cron="0 3 * * *", changed_data=True, new_rows=1000, drift=True)
    decision = decide(
        "taxi", config, looked(data="old", rows=5300, trained_rows=5000, drift=drift(0.04)), memory(data="old")
    )
    assert not decision.retrain
    assert decision.verdict == (
        "did not retrain: cron '0 3 * * *' is not due, the data are those of the last run, 300 of 1,000 new rows, "
        "drift of trip_miles 0.04 ≤ 0.1, last run 3 h ago"
    )


@pytest.mark.parametrize(
    ("config", "what", "told"),
    [
        (schedule(cron="0 12 * * *"), looked(), "cron '0 12 * * *' is due since 2026-03-04 12:00:00 UTC"),
        (schedule(changed_data=True), looked(), "the data have changed since the last run"),
        (schedule(changed_data=True), looked(trained_data="", last_run=None), "no run has read the data yet"),
        (schedule(new_rows=10), looked(rows=110, trained_rows=100), "10 new rows, at least 10"),
        (schedule(drift=True), looked(drift=drift(0.2)), "drift of trip_miles 0.2 > 0.1"),
        (schedule(new_span=True), looked(trained_data="", last_run=None), "no run has read a span yet"),
        (schedule(new_span=True), looked(arrivals=arrived("late")), "span 7 arrived late"),
        (
            schedule(new_span=True),
            looked(read_known=False),
            "the data have changed, and which spans the last run read is not known",
        ),
        (schedule(new_rows=10), looked(rows=100, trained_rows=100, new_rows=30), "30 new rows, at least 10"),
        (schedule(quality=QUALITY), looked(quality=quality(0.1)), "auc is 0.7"),
    ],
)
def test_each_trigger(config, what, told):
    """Asks by itself."""
    decision = decide("taxi", config, what, memory())
    assert decision.retrain
    assert decision.verdict == f"retrains: {told}"


@pytest.mark.parametrize(("value", "expected"), [(0.2, True), (0.05, False)])
def test_all_of_them(value, expected):
    """`any: false` waits until all ask at one tick."""
    decision = decide("taxi", schedule(changed_data=True, drift=True, any=False), looked(drift=drift(value)), None)
    assert decision.retrain is expected


def test_cron_judged_together_is_not_kept():
    """With `any: false` cron says when to look; it does not stay due until drift comes."""
    config = schedule(cron="0 12 * * *", drift=True, any=False)
    first = decide("taxi", config, looked(drift=drift(0.01)), memory())
    assert not first.retrain
    assert not decide("taxi", config, looked(at=NOON + HOUR, drift=drift(0.5)), first.memory).retrain


def test_first_tick_makes_up_nothing():
    """Cron counts from the first tick on."""
    assert not decide("taxi", schedule(cron="* * * * *"), looked(), None).retrain


def test_missed_ticks_are_made_up_once():
    """However many times were missed."""
    config = schedule(cron="0 * * * *")
    late = decide("taxi", config, looked(at=NOON + 50 * HOUR), memory())
    assert late.retrain
    assert not decide("taxi", config, looked(at=NOON + 50 * HOUR + HOUR / 2), late.memory).retrain


@pytest.mark.parametrize(
    ("config", "what", "told"),
    [
        (
            schedule(changed_data=True, cool_down="6h"),
            looked(),
            "the data have changed since the last run, but the last run began 3 h ago, and the cool-down is 6h",
        ),
        (schedule(changed_data=True, quiet_hours=["11:00-13:00"]), looked(), "quiet hours are 11:00-13:00"),
        (schedule(changed_data=True, quiet_hours=["23:00-13:00"]), looked(), "quiet hours are 23:00-13:00"),
        (
            schedule(changed_data=True, quiet_hours=["13:00-13:30"], time_zone="Europe/Berlin"),
            looked(),
            "quiet hours are 13:00-13:30",
        ),
        (schedule(changed_data=True), looked(running="run r2 still runs"), "did not retrain: run r2 still runs"),
    ],
)
def test_what_holds_a_run_back(config, what, told):
    """Is said; and what was due stays due."""
    decision = decide("taxi", config, what, memory())
    assert not decision.retrain
    assert decision.held
    assert told in decision.verdict
    free = what.model_copy(update={"at": NOON + 4 * HOUR, "running": ""})
    assert decide("taxi", config, free, decision.memory).retrain


@pytest.mark.parametrize(
    ("others", "held"),
    [
        ({"cool_down": "3h"}, False),
        ({"cool_down": "10801s"}, True),
        ({"quiet_hours": ["12:00-13:00"]}, True),
        ({"quiet_hours": ["11:00-12:00"]}, False),
        ({"quiet_hours": ["12:00-06:00"]}, True),
        ({"quiet_hours": ["23:00-12:00"]}, False),
        ({"quiet_hours": ["01:00-02:00", "11:59-12:01"]}, True),
    ],
)
def test_where_what_holds_back_begins_and_ends(others, held):
    """A cool-down is over when it has passed; quiet hours have their first minute and not their last."""
    decision = decide("taxi", schedule(changed_data=True, **others), looked(), memory())
    assert (decision.retrain, bool(decision.held)) == (not held, held)


@pytest.mark.parametrize(
    ("config", "what", "told"),
    [
        (schedule(drift=True), looked(drift=drift(0.1)), "drift of trip_miles 0.1 ≤ 0.1"),
        (schedule(new_rows=10), looked(rows=109, trained_rows=100), "9 of 10 new rows"),
        (schedule(new_rows=10), looked(rows=90, trained_rows=100), "0 of 10 new rows"),
        (schedule(quality=QUALITY), looked(quality=quality(0.0, "inconclusive")), "auc is 0.7"),
    ],
)
def test_the_limit_itself_asks_for_nothing(config, what, told):
    """Nor what lies inside the noise, or rows that have gone."""
    decision = decide("taxi", config, what, memory())
    assert not decision.retrain
    assert decision.verdict == f"did not retrain: {told}, last run 3 h ago"
    assert decision.fired == ()


def test_cron_that_is_held_stays_due():
    """Quiet hours put a nightly run off, they do not cancel it."""
    config = schedule(cron="0 12 * * *", quiet_hours=["11:00-14:00"])
    held = decide("taxi", config, looked(), memory())
    assert held.held
    assert decide("taxi", config, looked(at=NOON + 2 * HOUR), held.memory).retrain


def test_the_same_data_once():
    """Whatever came of the run: blocked data do not begin a run at every tick."""
    config = schedule(changed_data=True, new_rows=1)
    first = decide("taxi", config, looked(rows=200, trained_rows=100), memory())
    assert first.retrain
    again = decide("taxi", config, looked(at=NOON + HOUR, rows=200, trained_rows=100), first.memory)
    assert not again.retrain
    assert "the data have changed since the last run, for which a run began already" in again.verdict
    assert decide("taxi", config, looked(at=NOON + HOUR, data="newer", rows=1), first.memory).retrain


def test_a_failed_run_is_tried_again():
    """For the same data, once `retry_failed` is over."""
    config = schedule(changed_data=True, drift=True, retry_failed="2h")
    what = looked(drift=drift(0.3), last_run=run(NOON, "failed"))
    spent = memory(data="new", drift_excess=3.0, champion=1)
    assert not decide("taxi", config, what.model_copy(update={"at": NOON + HOUR}), spent).retrain
    assert decide("taxi", config, what.model_copy(update={"at": NOON + 2 * HOUR}), spent).retrain


def test_hysteresis():
    """Drift that a run did not mend asks again when it has grown, was within its limits, or another version serves."""
    config = schedule(drift=True, hysteresis=0.1)
    spent = decide("taxi", config, looked(drift=drift(0.2)), memory()).memory

    def later(value, champion=1, since=spent):
        return decide("taxi", config, looked(at=NOON + HOUR, drift=drift(value), champion=champion), since)

    assert "has not grown by 10% since" in later(0.21).verdict
    assert not later(0.21).retrain
    assert later(0.23).retrain
    assert later(0.21, champion=2).retrain
    assert later(0.21, since=later(0.09).memory.model_copy(update={"at": NOON})).retrain


def test_decayed_quality_asks_once():
    """A shortfall that a run did not mend asks again when it has grown, was made up for, or another version serves."""
    config = schedule(quality=QUALITY, hysteresis=0.1)
    spent = decide("taxi", config, looked(quality=quality(0.1)), memory()).memory

    def later(shortfall, verdict="fail", champion=1, since=spent):
        what = looked(at=NOON + HOUR, quality=quality(shortfall, verdict), champion=champion)
        return decide("taxi", config, what, since)

    assert "has not grown by 10% since" in later(0.105).verdict
    assert not later(0.105).retrain
    assert later(0.12).retrain
    assert later(0.105, champion=2).retrain
    assert not later(0.0, "inconclusive").retrain
    assert not later(0.105, since=later(0.0, "inconclusive").memory.model_copy(update={"at": NOON})).retrain
    assert later(0.105, since=later(0.0, "pass").memory.model_copy(update={"at": NOON})).retrain


def test_spans_that_are_nothing_to_train_on():
    """Are told of, and begin nothing; nor do the same spans twice."""
    config = schedule(new_span=True)
    none = decide("taxi", config, looked(arrivals=arrived("same", "outside")), memory())
    assert not none.retrain
    assert (
        "span 7 came again with the rows that were read before, span 8 arrived too late for the window" in none.verdict
    )
    assert "no new span" in decide("taxi", config, looked(), memory()).verdict
    assert not decide("taxi", config, looked(arrivals=arrived("new"), same_rows=True), memory()).retrain
    first = decide("taxi", config, looked(arrivals=arrived(*["new"] * 7)), memory())
    assert first.retrain
    assert first.verdict.endswith("span 11 has arrived, and 2 more")
    again = decide("taxi", config, looked(at=NOON + HOUR, arrivals=arrived("new")), first.memory)
    assert "span 7 has arrived, for which a run began already" in again.verdict


def test_the_same_rows_under_other_names():
    """Are no changed data."""
    assert not decide("taxi", schedule(changed_data=True), looked(same_rows=True), memory()).retrain


def test_a_clock_that_was_set_back():
    """Nothing is decided by it, and nothing forgotten."""
    before = memory(at=NOON + HOUR)
    decision = decide("taxi", schedule(changed_data=True), looked(), before)
    assert decision.verdict == (
        "did not retrain: the clock was set back: it says 2026-03-04 12:00:00 UTC, "
        "and the last tick was at 2026-03-04 13:00:00 UTC"
    )
    assert decision.memory == before


def test_data_that_cannot_be_read():
    """A decision like any other, also where cron is due."""
    decision = decide("taxi", schedule(cron="* * * * *"), looked(problem="x.csv: matches no file."), memory())
    assert not decision.retrain
    assert "the data cannot be looked at: x.csv: matches no file." in decision.verdict


def test_a_run_that_was_cut_off_goes_on():
    """At once, whatever the cool-down; but not for ever."""
    config = schedule(changed_data=True, cool_down="1d")
    spent = memory(data="new", champion=1)
    for number in range(ATTEMPTS):
        decision = decide("taxi", config, looked(cut_off=True), spent)
        assert decision.retrain, number
        assert decision.resume
        spent = decision.memory
    last = decide("taxi", config, looked(cut_off=True), spent)
    assert not last.retrain
    assert "was cut off 4 times in a row" in last.verdict


def test_a_run_that_was_cut_off_waits_for_the_end_of_quiet_hours():
    """It is said, it is no attempt, and it goes on afterwards."""
    config = schedule(changed_data=True, quiet_hours=["11:00-13:00"])
    spent = memory(data="new", champion=1)
    held = decide("taxi", config, looked(cut_off=True), spent)
    assert (held.retrain, held.held, held.fired) == (False, "quiet hours are 11:00-13:00", ("cut_off",))
    assert held.verdict.endswith("was cut off before it ended, but quiet hours are 11:00-13:00")
    assert held.memory.attempts == 0
    after = decide("taxi", config, looked(at=NOON + HOUR, cut_off=True), held.memory)
    assert (after.retrain, after.resume, after.memory.attempts) == (True, True, 1)


@pytest.mark.parametrize(
    ("since", "words"),
    [
        (timedelta(days=3), "3 d ago"),
        (timedelta(days=1), "1 d ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(minutes=61), "61 min ago"),
        (timedelta(seconds=119), "119 s ago"),
        (timedelta(minutes=1), "1 min ago"),
        (timedelta(seconds=-5), "0 s ago"),
    ],
)
def test_how_long_ago_the_last_run_was(since, words):
    """In the largest unit that says enough; never below nought."""
    decision = decide("taxi", schedule(changed_data=True), looked(data="old", last_run=run(NOON - since)), memory())
    assert decision.verdict.endswith(f"last run {words}")


def test_jitter_is_the_pipelines_own():
    """The same at every tick, at most what is configured, and not that of every other pipeline."""
    config = schedule(cron="0 12 * * *", jitter="30m")

    def due(name):
        ticks = (NOON + timedelta(seconds=15 * number) for number in range(125))
        return next(at for at in ticks if decide(name, config, looked(at=at), memory()).retrain) - NOON

    waits = [due(f"pipeline-{number}") for number in range(8)]
    assert waits == [due(f"pipeline-{number}") for number in range(8)]
    assert all(timedelta(0) <= wait <= timedelta(minutes=30, seconds=15) for wait in waits)
    assert len(set(waits)) > 4


def month():
    """Hour, fingerprint, rows and the day whose season the data have: a month in which 400 rows come each night at two.

    On the 11th a feature comes in other units until the next night; nothing comes from the 15th to the 21st; the 22nd is
    twelve hours late.
    """
    rows, season, data = 0, 0, ""
    for day in range(1, 32):
        for hour in range(24):
            if hour == (14 if day == 22 else 2) and not 15 <= day <= 21:
                rows, season, data = rows + 400, day, f"day {day}"
            yield datetime(2026, 3, day, hour, tzinfo=UTC), data, rows, season


def test_a_month():
    """The expected runs and no other: enough rows, a bug upstream that is tried once, a season that went on unseen."""
    config = schedule(new_rows=2000, drift=True, cool_down="12h")
    kept, last, champion, trained_rows, learned, runs = None, None, None, 0, 0, []
    for at, data, rows, season in month():
        bug = data == "day 11"
        distance = (
            drift(0.6 if bug else 0.012 * (season - learned)) if champion else Drift(reason="nothing is served yet")
        )
        what = looked(at=at, data=data, rows=rows, trained_rows=trained_rows, drift=distance, last_run=last)
        decision = decide("taxi", config, what.model_copy(update={"champion": champion}), kept)
        kept = decision.memory
        if decision.retrain:
            runs.append((at.day, at.hour, *decision.fired))
            last, trained_rows = run(at, "data_blocked" if bug else "pushed"), rows
            champion, learned = (champion, learned) if bug else ((champion or 0) + 1, season)
    assert runs == [(5, 2, "new_rows"), (10, 2, "new_rows"), (11, 2, "drift"), (22, 14, "drift"), (27, 2, "new_rows")]


TICKS = st.lists(
    st.tuples(
        st.integers(-30, 600),  # minutes since the last tick
        st.sampled_from(["a", "b", "c"]),
        st.floats(0, 1),
        st.booleans(),
        st.sampled_from(["pushed", "blocked", "failed"]),
    ),
    max_size=40,
)


@given(
    TICKS,
    st.sampled_from(["0s", "1h", "6h"]),
    st.sampled_from([(), ("22:00-06:00",), ("09:00-17:00", "20:00-21:00")]),
    st.booleans(),
    st.sampled_from([None, "0 3 * * *", "*/30 * * * *"]),
)
def test_no_storm_whatever_happens(ticks, cool_down, quiet, any_, cron):
    """No two runs within a cool-down, none in quiet hours, none beside another; and every decision has its words."""
    config = schedule(cron=cron, changed_data=True, drift=True, any=any_, cool_down=cool_down, quiet_hours=quiet)
    at, kept, last, champion, trained = NOON, None, None, 1, ""
    pause = timedelta(hours=int(cool_down[:-1]))
    for minutes, data, distance, busy, outcome in ticks:
        at += timedelta(minutes=minutes)
        what = looked(
            at=at, data=data, trained_data=trained, drift=drift(distance), running="busy" if busy else "", last_run=last
        ).model_copy(update={"champion": champion})
        decision = decide("taxi", config, what, kept)
        assert decision.verdict.startswith("retrains: " if decision.retrain else "did not retrain: ")
        assert decision.memory == decide("taxi", config, what, kept).memory
        assert kept is None or decision.memory.at >= kept.at
        if decision.retrain:
            assert decision.fired
            assert not busy
            assert last is None or at - last.started >= pause
            assert not any(_within(hours, at) for hours in quiet)
            last = run(at, outcome)
            champion += outcome == "pushed"
            trained = trained if outcome == "failed" else data
        kept = decision.memory


def _within(hours, at):
    start, end = hours.split("-")
    now = f"{at:%H:%M}"
    return start <= now < end if start < end else now >= start or now < end
