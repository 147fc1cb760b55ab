"""Ticks of a real pipeline: what they look at, what they run, what they leave in the lineage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.lineage.store import open_store
from components.lineage.ticks import ticks
from runners.local.lock import exclusive
from runners.schedule import quality
from runners.schedule.watch import Watch
from schemas.load import load_config
from schemas.tick import Tick
from tests.workbench import REPOSITORY, Bench, satisfice, taxi_bench

SCHEDULE = {"triggers": {"changed_data": True, "new_rows": 100, "drift": True}, "every": "1s"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small taxi pipeline with a schedule, of which the first tick has made version 1."""
    made = taxi_bench(tmp_path_factory.mktemp("schedule"))
    made.edit(lambda raw: raw.update(schedule=SCHEDULE))
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "auc", "min": 0.01}], optimize=None))
    answer = satisfice("watch", made.config, "--once")
    assert answer.code == 0, answer.out + answer.err
    first, last = answer.out.splitlines()
    assert "retrains: no run has read the data yet, 2,000 new rows, at least 100; its run has not ended" in first
    assert ": pushed (exit code 0)" in last
    return made


class Runs:
    """Stands in for runs: keeps the commands, and answers as it is told."""

    def __init__(self, code: int = 3, out: str = '{"run": "r", "outcome": "blocked"}') -> None:
        self.commands: list[list[str]] = []
        self.answer = code, out

    def __call__(self, command: list[str]) -> tuple[int, str]:
        self.commands.append(command)
        return self.answer


class Clock:
    """Goes on by an hour at each look."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def elsewhere(fresh_taxi: Bench) -> Bench:
    """A pipeline with a schedule that has not run."""
    fresh_taxi.edit(lambda raw: raw.update(schedule={"triggers": {"changed_data": True}, "every": "1s"}))
    return fresh_taxi


def watch(bench: Bench, runs: Any, clock: Clock | None = None) -> Watch:
    loaded = load_config(bench.config, [])
    return Watch(loaded, bench.folder / "pipelines" / "taxi", clock=clock or Clock(), start=runs)


def silent(tick: Tick) -> None:
    """Tells nobody."""


def recorded(bench: Bench) -> list[Tick]:
    return ticks(open_store(load_config(bench.config, []).config.metadata, read_only=True), "taxi")


def test_nothing_new(bench: Bench) -> None:
    """Is a decision with its reasons, in the lineage, and exit code 0."""
    answer = satisfice("watch", bench.config, "--once", "--json")
    assert answer.code == 0
    decision = answer.json["decision"]
    assert not decision["retrain"]
    told = "did not retrain: the data are those of the last run, 0 of 100 new rows, drift of "
    assert decision["verdict"].startswith(told)
    assert recorded(bench)[0].decision.verdict == decision["verdict"]
    listed = satisfice("decisions", bench.config, "--limit", "1").out
    assert told in listed
    assert len(listed.splitlines()) == 1
    both = satisfice("decisions", bench.config, "--json").json
    assert both[-1]["outcome"] == "pushed"
    assert both[-1]["run"] == satisfice("runs", bench.config, "--json").json[0]["run_id"]


def test_another_unit_is_drift(bench: Bench, tmp_path: Path) -> None:
    """Named with value and limit; `--explain` records nothing."""
    before = bench.data.read_text()
    count = len(recorded(bench))
    bench.rows(lambda rows: [row | {"trip_miles": str(float(row["trip_miles"] or 0) * 9)} for row in rows])
    try:
        answer = satisfice("watch", bench.config, "--once", "--explain")
        assert answer.code == 0
        assert "would say: retrains: the data have changed since the last run, drift of trip_miles 0." in answer.out
        assert "2,000 rows" in answer.out
        assert "served: version 1" in answer.out
    finally:
        bench.data.write_text(before)
    assert len(recorded(bench)) == count


def test_data_that_are_gone(elsewhere: Bench) -> None:
    """A recorded decision and exit code 1, no run."""
    elsewhere.data.unlink()
    answer = satisfice("watch", elsewhere.config, "--once")
    assert answer.code == 1
    assert "did not retrain: the data cannot be looked at: " in answer.out
    assert "matches no file" in answer.out
    assert recorded(elsewhere)[0].looked.problem


def test_blocked_data_begin_one_run(elsewhere: Bench) -> None:
    """However often there is a tick."""
    runs = Runs()
    watched = watch(elsewhere, runs)
    kept = [watched.tick(silent) for _ in range(4)]
    assert [tick.decision.retrain for tick in kept] == [True, False, False, False]
    assert (kept[0].run, kept[0].outcome, kept[0].exit_code) == ("r", "blocked", 3)
    assert len(runs.commands) == 1
    elsewhere.data.write_text(elsewhere.data.read_text() + "\n")
    assert watched.tick(silent).decision.retrain


def test_one_run_at_a_time(elsewhere: Bench) -> None:
    """While another run holds the root, or another tick the schedule, that is what is recorded."""
    runs = Runs()
    watched = watch(elsewhere, runs)
    with exclusive(watched.root):
        assert "another run holds this pipeline root" in watched.tick(silent).decision.verdict
    with exclusive(watched.root / ".watch"):
        assert "another run holds this schedule" in watched.tick(silent).decision.verdict
    assert not runs.commands
    assert watched.tick(silent).decision.retrain


def test_a_run_that_died_goes_on(elsewhere: Bench) -> None:
    """A tick whose run was killed has not ended; the next one takes it up."""
    killed = Runs(-9, "")
    watched = watch(elsewhere, killed)
    assert not watched.tick(silent).ended
    again = watched.tick(silent)
    assert again.decision.fired == ("cut_off",)
    assert again.decision.resume
    watched.start = Runs()
    assert watched.tick(silent).ended
    assert not watched.tick(silent).decision.retrain


def test_a_clock_that_was_set_back(elsewhere: Bench) -> None:
    """Is told of, and begins nothing."""
    runs, clock = Runs(), Clock()
    watched = watch(elsewhere, runs, clock)
    watched.tick(silent)
    clock.now -= timedelta(days=1)
    assert "the clock was set back" in watched.tick(silent).decision.verdict
    assert len(runs.commands) == 1


def test_the_loop_ends_with_sigterm(elsewhere: Bench) -> None:
    """With exit code 0, and every tick is in the lineage."""
    elsewhere.edit(lambda raw: raw["schedule"].update(quiet_hours=["00:00-00:00"]))
    process = subprocess.Popen(
        [sys.executable, "-m", "runners.cli", "watch", str(elsewhere.config)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 0
    process.stdout.close()
    assert all("no run has read the data yet, but quiet hours are 00:00-00:00" in line for line in lines)
    assert len(recorded(elsewhere)) >= 2


def test_sigterm_reaches_the_run(elsewhere: Bench) -> None:
    """The run is told to end, the tick stays unended, and the next watch goes on with it."""
    watched = watch(elsewhere, None)
    script = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)"
    watched.start = lambda command: watched._start([sys.executable, "-c", script])
    begun = time.monotonic()
    tick = watched.once(silent)
    assert time.monotonic() - begun < 500
    assert tick.decision.retrain
    assert not recorded(elsewhere)[0].ended
    assert watch(elsewhere, Runs()).tick(silent).decision.fired == ("cut_off",)


def test_sigterm_reaches_the_evaluation(elsewhere: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and told of as what could not be measured."""
    monkeypatch.setattr(quality, "MODULE", "tests.resources.stops_its_parent")
    watched = watch(elsewhere, Runs())
    begun = time.monotonic()
    with watched._stopping():
        outcome = watched._evaluate({})
    assert time.monotonic() - begun < 500
    assert outcome.problem.startswith("its process was killed by SIGKILL")


def test_no_schedule(fresh_taxi: Bench) -> None:
    """Is named, with what to write."""
    answer = satisfice("watch", fresh_taxi.config, "--once")
    assert answer.code == 2
    assert "schedule: is missing; expected schedule: {triggers: " in answer.err


def test_a_limit_on_no_feature(elsewhere: Bench) -> None:
    """Is refused before anything is looked at, with the close match."""
    elsewhere.edit(lambda raw: raw["data"].update(validate={"drift": {"trip_mile": {"jensen_shannon": 0.1}}}))
    answer = satisfice("watch", elsewhere.config, "--once")
    assert answer.code == 2
    assert "data.validate.drift.trip_mile: is not a feature of the data schema" in answer.err
    assert "did you mean 'trip_miles'" in answer.err


def test_no_ticks_yet(taxi: Bench) -> None:
    """Said, with what makes them."""
    assert "No ticks yet: `satisfice watch` makes them." in satisfice("decisions", taxi.config).out


def test_units_are_written(elsewhere: Bench, tmp_path: Path) -> None:
    """With the very command of a tick."""
    answer = satisfice("schedule", elsewhere.config, "-o", tmp_path / "units", "--json")
    assert answer.code == 0
    assert answer.json["files"] == ["satisfice-taxi.service", "satisfice-taxi.timer"]
    service = (tmp_path / "units" / "satisfice-taxi.service").read_text()
    assert f'"-m" "runners.cli" "watch" "{elsewhere.config}" "--once"' in service


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small taxi pipeline on spans of a window, of which the first tick has made version 1."""
    made = taxi_bench(tmp_path_factory.mktemp("spans"))
    deliver(made, "2025-11-07-v1", 0)
    deliver(made, "2025-11-08-v1", 600)
    made.data.unlink()
    made.edit(
        lambda raw: raw["data"]["source"].update(path="{YYYY}-{MM}-{DD}-v{VERSION}.csv", window={"last_spans": 3})
    )
    triggers = {"new_span": True, "new_rows": 500, "drift": True, "changed_data": True}
    made.edit(lambda raw: raw.update(schedule={"triggers": triggers}))
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "auc", "min": 0.01}], optimize=None))
    answer = satisfice("watch", made.config, "--once")
    assert answer.code == 0, answer.out + answer.err
    assert "retrains: no run has read a span yet, no run has read the data yet, 1,200 new rows" in answer.out
    assert ": pushed (exit code 0)" in answer.out
    return made


def deliver(bench: Bench, name: str, start: int) -> None:
    """600 real rows as a file."""
    lines = (REPOSITORY / "data/taxi/data.csv").read_text().splitlines(keepends=True)
    (bench.folder / f"{name}.csv").write_text("".join([lines[0], *lines[1 + start : 601 + start]]))


def explained(bench: Bench) -> str:
    answer = satisfice("watch", bench.config, "--once", "--explain")
    assert answer.code == 0, answer.out + answer.err
    return answer.out


def test_spans_of_a_real_run(spans: Bench) -> None:
    """Are known again: what arrives is told from what a run has read, by version, day and content."""
    out = satisfice("watch", spans.config, "--once").out
    assert "did not retrain: no new span, the data are those of the last run, 0 of 500 new rows, drift of " in out
    shutil.copy(spans.folder / "2025-11-08-v1.csv", spans.folder / "2025-11-08-v2.csv")
    same = explained(spans)
    assert (
        "did not retrain: span 20400 (2025-11-08) came again as version 2 with the rows that were read before" in same
    )
    assert "the data are those of the last run, 0 of 500 new rows" in same
    deliver(spans, "2025-11-08-v3", 1200)
    assert "retrains: span 20400 (2025-11-08) came again as version 3, the data have changed" in explained(spans)
    deliver(spans, "2025-11-06-v1", 1800)
    assert "span 20398 (2025-11-06) arrived late, span 20400 (2025-11-08) came again as version 3" in explained(spans)
    deliver(spans, "2025-11-10-v1", 2400)
    told = explained(spans)
    assert "span 20400 (2025-11-08) came again as version 3, span 20402 (2025-11-10) has arrived" in told
    assert "1,200 new rows, at least 500" in told
    assert "spans: 20400 to 20402; no data of 2025-11-09" in told


def test_spans_of_no_source_with_spans(elsewhere: Bench) -> None:
    """Are refused, with what to write."""
    elsewhere.edit(lambda raw: raw["schedule"]["triggers"].update(new_span=True))
    answer = satisfice("watch", elsewhere.config, "--once")
    assert answer.code == 2
    assert "schedule.triggers.new_span: is given, but the source has no spans; expected {SPAN}, or {YYYY}" in answer.err
