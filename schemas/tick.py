"""What a tick of the schedule looked at and what it decided: the record that stands in the lineage."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Arrival", "Drift", "Looked", "Memory", "Quality", "Run", "Tick", "TickDecision", "Trigger"]


Trigger = Literal["cron", "new_span", "changed_data", "new_rows", "drift", "decayed_quality"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Drift(_Record):
    """How far the rows of the source are from those on which the model now served was trained.

    Attributes:
        feature, measure, value, limit: of the comparison that is nearest to its limit, or furthest past it; "" and None
            where nothing could be compared.
        excess: the largest of value / limit; 0 where nothing could be compared.
        reason: in words, of the comparison or of why there is none.
    """

    feature: str = ""
    measure: str = ""
    value: float | None = None
    limit: float | None = None
    excess: float = 0.0
    reason: str


class Arrival(_Record):
    """A span that the newest run which ended had not read as it stands now.

    Attributes:
        number, name, version: of the span; no version where the path has none.
        how: `new`; `late`, where that run had read a later one; `again`, where it had read other rows of it; `same`, where
            it had read these very rows under another version or as another span; `outside`, where it is before the window.
    """

    number: int
    name: str
    version: int | None = None
    how: Literal["new", "late", "again", "same", "outside"]

    @property
    def asks(self) -> bool:
        """Whether it is something to train on."""
        return self.how in ("new", "late", "again")

    @property
    def told(self) -> str:
        """In words.

        >>> Arrival(number=20401, name="2025-11-09", how="late").told
        'span 20401 (2025-11-09) arrived late'
        """
        name = f"span {self.number}" + (f" ({self.name})" if self.name != str(self.number) else "")
        version = f" as version {self.version}" if self.version is not None else ""
        return {
            "new": f"{name} has arrived",
            "late": f"{name} arrived late",
            "again": f"{name} came again{version or ' with other rows'}",
            "same": f"{name} came again{version} with the rows that were read before",
            "outside": f"{name} arrived too late for the window",
        }[self.how]


class Quality(_Record):
    """How good the model now served is on labelled rows that its run had not read.

    Attributes:
        metric, value, interval, n: of the figure; no value where it could not be measured.
        then: the figure by which the model was decided on; None where it is not known.
        limit: that it was held against, the one that is furthest past or nearest; None where nothing was judged.
        verdict: `fail` asks for a run.
        shortfall: by how much it is past the limit; 0 where it is not.
        reason: in words.
    """

    metric: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    then: float | None = None
    limit: float | None = None
    verdict: Literal["pass", "fail", "inconclusive", "too_few_examples", "not_measured"]
    shortfall: float = 0.0
    reason: str


class Run(_Record):
    """A run of the pipeline, as far as the schedule needs it.

    Attributes:
        run_id: its id.
        started: when, UTC.
        outcome: as `satisfice runs` gives it.
    """

    run_id: str
    started: datetime
    outcome: str


class Looked(_Record):
    """What a tick looked at.

    Attributes:
        at: when, UTC.
        data: fingerprint of the content of the source's files; "" where they cannot be read.
        files: number of them.
        spans: of the window, each with its version; () where the source has none.
        older: first and last number of each row of spans before the window.
        missing: spans within the window of which there are no data.
        arrivals: what has arrived since the newest run which ended.
        rows: number of rows in them; None where no trigger asks for it.
        new_rows: how many of them that run had not read, where that is known by files; else None.
        trained_data: the fingerprint that the newest run which ended read; "" where there is none, or the data were not
            looked at.
        trained_rows: number of its rows; None where that is not known.
        read_known: whether it is known which files that run read.
        same_rows: whether the files hold what that run read, under whatever names.
        drift: None where no trigger asks for it.
        quality: None where no trigger asks for it.
        asked: digest of what drift and quality were held against: limits, features, statistics, the model.
        champion: version that is served; None where none is.
        last_run: the newest run that is no backfill and was given no other span; None where there is none.
        running: who holds the pipeline root, in words; "" where nobody does.
        cut_off: whether the run of the last tick that retrained was cut off before it ended.
        problem: why the data cannot be looked at; "" where they can.
    """

    at: datetime
    data: str = ""
    files: int = 0
    spans: tuple[tuple[int, int | None], ...] = ()
    older: tuple[tuple[int, int], ...] = ()
    missing: tuple[str, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    rows: int | None = None
    new_rows: int | None = None
    trained_data: str = ""
    trained_rows: int | None = None
    read_known: bool = True
    same_rows: bool = False
    drift: Drift | None = None
    quality: Quality | None = None
    asked: str = ""
    champion: int | None = None
    last_run: Run | None = None
    running: str = ""
    cut_off: bool = False
    problem: str = ""


class Memory(_Record):
    """What one tick leaves to the next.

    Attributes:
        at: the latest time at which there was a tick, UTC; it never goes back.
        cron_from: the time after which cron is looked at: what was due before has been dealt with.
        data: fingerprint of the data for which a run was last begun; "" where none was.
        drift_excess: of the run that drift last caused; None where drift has been within its limits since, or another
            version serves.
        shortfall: of the run that decayed quality last caused; None likewise.
        champion: version that was served then.
        attempts: how often in a row a run that was cut off was begun again.
    """

    at: datetime
    cron_from: datetime
    data: str = ""
    drift_excess: float | None = None
    shortfall: float | None = None
    champion: int | None = None
    attempts: int = 0


class TickDecision(_Record):
    """What a tick decided.

    Attributes:
        retrain: whether a run is to begin.
        resume: whether it goes on with the one that was cut off.
        verdict: the whole of it in one sentence.
        fired: names of the triggers that ask for a run.
        reasons: what each trigger found, one clause each.
        held: why a run that triggers ask for does not begin now; "" where nothing holds it.
        memory: for the next tick.
    """

    retrain: bool
    resume: bool = False
    verdict: str
    fired: tuple[Trigger | Literal["cut_off"], ...] = ()
    reasons: tuple[str, ...] = ()
    held: str = ""
    memory: Memory


class Tick(_Record):
    """One tick.

    Attributes:
        looked: what was looked at.
        decision: what was decided.
        run: id of the run that came of it; "" where none did, or it has not ended.
        outcome: of that run; "" likewise.
        exit_code: of that run; None likewise.
        ended: whether the tick, and its run, have ended.
    """

    looked: Looked
    decision: TickDecision
    run: str = ""
    outcome: str = ""
    exit_code: int | None = None
    ended: bool = False
