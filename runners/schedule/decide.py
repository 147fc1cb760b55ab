"""From what a tick looked at to what it decides, in words. Pure: no clock, no files, no lineage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.config import ScheduleConfig, seconds_of
from schemas.cron import Cron
from schemas.tick import Looked, Memory, TickDecision, Trigger

__all__ = ["ATTEMPTS", "decide"]

ATTEMPTS = 3
"""So often in a row a run that was cut off is begun again."""


@dataclass(frozen=True)
class _Finding:
    """What one trigger says.

    Attributes:
        name: of the trigger.
        asks: whether it asks for a run.
        told: in words.
    """

    name: Trigger
    asks: bool
    told: str


def decide(pipeline: str, schedule: ScheduleConfig, looked: Looked, memory: Memory | None) -> TickDecision:
    """What a tick decides.

    A run begins at most once for the same data and the same version served, unless cron asks for it, or it failed and
    `retry_failed` is over. What is held back by quiet hours, a cool-down or a run that still runs is due until it is done.

    Args:
        pipeline: its name, from which the jitter follows.
        schedule: the configuration's section.
        looked: what there is.
        memory: of the last tick; None for the first, for which cron begins to count now.
    """
    memory = memory or Memory(at=looked.at, cron_from=looked.at)
    if looked.at < memory.at:
        told = f"the clock was set back: it says {_shown(looked.at)}, and the last tick was at {_shown(memory.at)}"
        return _no(told, memory)
    memory = _rearmed(memory.model_copy(update={"at": looked.at}), looked)
    if looked.running:
        return _no(looked.running, memory, held=looked.running)
    if looked.problem:
        return _no(f"the data cannot be looked at: {looked.problem}", memory)
    if looked.cut_off and memory.attempts < ATTEMPTS:
        return _of_cut_off(schedule, looked, memory)
    return _of_triggers(pipeline, schedule, looked, memory)


def _of_triggers(pipeline: str, schedule: ScheduleConfig, looked: Looked, memory: Memory) -> TickDecision:
    findings = _findings(pipeline, schedule, looked, memory)
    asking = (any if schedule.any else all)(finding.asks for finding in findings)
    held = _held(schedule, looked) if asking else ""
    judged = max(memory.cron_from, looked.at - _jitter(pipeline, schedule))
    reasons = _reasons(findings, looked)
    if held:
        told = "; ".join([finding.told for finding in findings if finding.asks])
        return _no(f"{told}, but {held}", memory, held=held, fired=_fired(findings), reasons=reasons)
    memory = memory.model_copy(update={"cron_from": judged, "attempts": 0 if not looked.cut_off else memory.attempts})
    if not asking:
        return _no(", ".join(reasons), memory, fired=_fired(findings), reasons=reasons)
    told = ", ".join(finding.told for finding in findings if finding.asks)
    return TickDecision(
        retrain=True,
        verdict=f"retrains: {told}",
        fired=_fired(findings),
        reasons=reasons,
        memory=_spent(memory, looked).model_copy(update={"attempts": 0}),
    )


def _no(
    told: str, memory: Memory, *, held: str = "", fired: tuple[str, ...] = (), reasons: tuple[str, ...] = ()
) -> TickDecision:
    return TickDecision.model_validate(
        {
            "retrain": False,
            "verdict": f"did not retrain: {told}",
            "fired": fired,
            "reasons": reasons or (told,),
            "held": held,
            "memory": memory,
        }
    )


def _of_cut_off(schedule: ScheduleConfig, looked: Looked, memory: Memory) -> TickDecision:
    """A run that was cut off goes on at once, but for quiet hours."""
    told = "the run of an earlier tick was cut off before it ended"
    quiet = _quiet(schedule, looked.at)
    if quiet:
        return _no(f"{told}, but {quiet}", memory, held=quiet, fired=("cut_off",))
    memory = memory.model_copy(update={"attempts": memory.attempts + 1})
    return TickDecision(
        retrain=True, resume=True, verdict=f"retrains: {told}", fired=("cut_off",), reasons=(told,), memory=memory
    )


def _rearmed(memory: Memory, looked: Looked) -> Memory:
    """Drift and decayed quality may ask again once they were within their limits, or another version serves."""
    other = looked.champion != memory.champion
    if other or (looked.drift is not None and looked.drift.excess <= 1):
        memory = memory.model_copy(update={"drift_excess": None})
    if other or (looked.quality is not None and looked.quality.verdict == "pass"):
        memory = memory.model_copy(update={"shortfall": None})
    return memory


def _spent(memory: Memory, looked: Looked) -> Memory:
    excess = looked.drift.excess if looked.drift is not None and looked.drift.excess > 1 else None
    shortfall = looked.quality.shortfall if looked.quality is not None and looked.quality.verdict == "fail" else None
    known = {"data": looked.data, "drift_excess": excess, "shortfall": shortfall, "champion": looked.champion}
    return memory.model_copy(update=known)


def _findings(pipeline: str, schedule: ScheduleConfig, looked: Looked, memory: Memory) -> list[_Finding]:
    """One for each trigger that is given, in the order of the configuration."""
    triggers = schedule.triggers
    retried = _is_retried(schedule, looked)
    done = memory.data == looked.data and not retried
    found = []
    if triggers.cron is not None:
        found.append(_of_cron(triggers.cron, pipeline, schedule, looked, memory))
    if triggers.new_span:
        found.append(_of_spans(looked, done=done))
    if triggers.changed_data:
        found.append(_of_data(looked, done=done))
    if triggers.new_rows is not None:
        found.append(_of_rows(triggers.new_rows, looked, done=done))
    if triggers.drift:
        found.append(_of_drift(schedule, looked, None if retried else memory.drift_excess))
    if triggers.decayed_quality is not None:
        found.append(_of_quality(schedule, looked, None if retried else memory.shortfall))
    return found


def _is_retried(schedule: ScheduleConfig, looked: Looked) -> bool:
    """Whether the newest run failed so long ago that it may be begun again."""
    run = looked.last_run
    failed = run is not None and run.outcome in ("failed", "unfinished")
    return failed and run is not None and looked.at - run.started >= _span(schedule.retry_failed)


def _of_cron(cron: str, pipeline: str, schedule: ScheduleConfig, looked: Looked, memory: Memory) -> _Finding:
    until = looked.at - _jitter(pipeline, schedule)
    zone = ZoneInfo(schedule.time_zone)
    due = Cron.parse(cron).last_due(memory.cron_from, until, zone)
    told = f"cron {cron!r} is not due" if due is None else f"cron {cron!r} is due since {_shown(due.astimezone(zone))}"
    return _Finding("cron", due is not None, told)


def _of_spans(looked: Looked, *, done: bool) -> _Finding:
    if not looked.trained_data:
        return _Finding("new_span", not done, f"no run has read a span yet{_ALREADY if done else ''}")
    told = [one.told for one in looked.arrivals]
    if len(told) > _SHOWN:
        told = [*told[:_SHOWN], f"and {len(told) - _SHOWN} more"]
    asks = any(one.asks for one in looked.arrivals) and not looked.same_rows
    if not looked.read_known and looked.data != looked.trained_data:
        asks, told = True, ["the data have changed, and which spans the last run read is not known"]
    words = ", ".join(told) or "no new span"
    return _Finding("new_span", asks and not done, f"{words}{_ALREADY if asks and done else ''}")


def _of_data(looked: Looked, *, done: bool) -> _Finding:
    if looked.data == looked.trained_data or looked.same_rows:
        return _Finding("changed_data", False, "the data are those of the last run")
    told = "the data have changed since the last run" if looked.trained_data else "no run has read the data yet"
    return _Finding("changed_data", not done, f"{told}{_ALREADY if done else ''}")


def _of_rows(enough: int, looked: Looked, *, done: bool) -> _Finding:
    new = looked.new_rows if looked.new_rows is not None else (looked.rows or 0) - (looked.trained_rows or 0)
    if new < enough:
        return _Finding("new_rows", False, f"{max(new, 0):,} of {enough:,} new rows")
    return _Finding("new_rows", not done, f"{new:,} new rows, at least {enough:,}{_ALREADY if done else ''}")


def _of_drift(schedule: ScheduleConfig, looked: Looked, spent: float | None) -> _Finding:
    drift = looked.drift
    assert drift is not None, "looked at where the trigger is given"
    if drift.value is None or drift.limit is None:
        told = f"drift: {drift.feature}: {drift.reason}" if drift.feature else f"drift: {drift.reason}"
    else:
        sign = ">" if drift.value > drift.limit else "≤"
        told = f"drift of {drift.feature} {round(drift.value, 6):.3g} {sign} {drift.limit:.3g}"
    grown = spent is None or drift.excess > spent * (1 + schedule.hysteresis)
    if drift.excess > 1 and not grown:
        told += f", for which a run began already, and it has not grown by {schedule.hysteresis:.0%} since"
    return _Finding("drift", drift.excess > 1 and grown, told)


def _of_quality(schedule: ScheduleConfig, looked: Looked, spent: float | None) -> _Finding:
    quality = looked.quality
    assert quality is not None, "looked at where the trigger is given"
    worse = quality.verdict == "fail"
    grown = spent is None or quality.shortfall > spent * (1 + schedule.hysteresis)
    told = quality.reason
    if worse and not grown:
        told += f", for which a run began already, and it has not grown by {schedule.hysteresis:.0%} since"
    return _Finding("decayed_quality", worse and grown, told)


_SHOWN = 5
_ALREADY = ", for which a run began already"


def _reasons(findings: list[_Finding], looked: Looked) -> tuple[str, ...]:
    told = [finding.told for finding in findings]
    if looked.cut_off:
        told.append(f"the last run was cut off {ATTEMPTS + 1} times in a row and is not begun again for that")
    run = looked.last_run
    return (*told, f"last run {_ago(looked.at - run.started)} ago" if run else "no run yet")


def _fired(findings: list[_Finding]) -> tuple[str, ...]:
    return tuple(finding.name for finding in findings if finding.asks)


def _held(schedule: ScheduleConfig, looked: Looked) -> str:
    """Why no run begins now, though one is asked for; "" where nothing stands against it."""
    run, pause = looked.last_run, _span(schedule.cool_down)
    if run is not None and looked.at - run.started < pause:
        return f"the last run began {_ago(looked.at - run.started)} ago, and the cool-down is {schedule.cool_down}"
    return _quiet(schedule, looked.at)


def _quiet(schedule: ScheduleConfig, at: datetime) -> str:
    now = at.astimezone(ZoneInfo(schedule.time_zone)).time()
    for hours in schedule.quiet_hours:
        start, end = map(time.fromisoformat, hours.split("-"))
        if (start <= now < end) if start < end else (now >= start or now < end):
            return f"quiet hours are {hours}"
    return ""


def _jitter(pipeline: str, schedule: ScheduleConfig) -> timedelta:
    """The same for a pipeline at every tick, so that a restart neither repeats nor loses a time that is due."""
    longest = seconds_of(schedule.jitter)
    number = int.from_bytes(hashlib.sha256(pipeline.encode()).digest()[:8])
    return timedelta(seconds=number % (longest + 1))


def _span(duration: str) -> timedelta:
    return timedelta(seconds=seconds_of(duration))


def _ago(span: timedelta) -> str:
    seconds = max(int(span.total_seconds()), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and seconds % length == 0):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S %Z")
