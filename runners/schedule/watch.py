"""One tick after the other: look, decide, record, and where it is decided, run. Survives a restart, SIGTERM and a missed tick.

A run is a process of its own, so that the loop stays small and a run that dies takes nothing with it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.lineage.reader import Lineage
from components.lineage.store import open_store
from components.lineage.ticks import newest_first, put_tick
from components.profiler.spawn import Child, Outcome
from runners.local.lock import exclusive, holder
from runners.schedule.decide import decide
from runners.schedule.look import check_schedule, look
from runners.schedule.quality import Evaluate, evaluate
from schemas.config import ScheduleConfig, seconds_of
from schemas.errors import ConfigError, Fault, RootLockedError
from schemas.load import LoadedConfig
from schemas.tick import Tick

__all__ = ["Watch", "exit_code_of"]

_LOCK = ".watch"
"""Folder in the pipeline root whose lock a tick holds until its run has ended."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Watch:
    """The schedule of one pipeline.

    Attributes:
        loaded: its configuration, as it was when the watch began; a restart takes a changed one.
        root: pipeline root.
        overrides: as `--set` took them, for the runs.
        clock: gives the time, UTC.
        start: runs a command; gives its exit code and what it wrote to standard output.
        evaluate: evaluates the model now served.
    """

    loaded: LoadedConfig
    root: Path
    overrides: tuple[str, ...] = ()
    clock: Callable[[], datetime] = _now
    start: Callable[[list[str]], tuple[int, str]] | None = None
    evaluate: Evaluate | None = None
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _process: subprocess.Popen[str] | None = field(default=None, init=False)
    _evaluation: Child | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Checks the section.

        Raises:
            ConfigError: there is none, or a limit is for what is no feature.
        """
        if self.loaded.config.schedule is None:
            expected = "schedule: {triggers: {cron: '0 3 * * *'}} or the like"
            raise ConfigError(str(self.loaded.file), [Fault("schedule", "is missing", expected)])
        check_schedule(self.loaded.config, str(self.loaded.file))

    @property
    def schedule(self) -> ScheduleConfig:
        """The configuration's section."""
        assert self.loaded.config.schedule is not None
        return self.loaded.config.schedule

    def explain(self) -> Tick:
        """What a tick would decide now. Nothing is recorded, nothing is run."""
        return self._decided(open_store(self.loaded.config.metadata), holder(self.root))

    def tick(self, tell: Callable[[Tick], None]) -> Tick:
        """One tick, to the end of the run that comes of it.

        Args:
            tell: is told of the decision before the run begins, and of the end of a run.

        Raises:
            MetadataError: the store cannot be opened.
        """
        with contextlib.ExitStack() as stack:
            running = ""
            try:
                stack.enter_context(exclusive(self.root / _LOCK))
            except RootLockedError as error:
                running = error.problem.replace("pipeline root", "schedule")
            store = open_store(self.loaded.config.metadata)
            tick = self._decided(store, running or holder(self.root))
            execution = put_tick(store, self.loaded.config.name, tick)
            tell(tick)
            if not tick.decision.retrain:
                return tick
            code, out = (self.start or self._start)(self._command(tick, store))
            if code < 0 or (self._stopped.is_set() and code):
                return tick  # cut off: the next tick goes on with it
            tick = _ended(tick, code, out)
            put_tick(store, self.loaded.config.name, tick, execution)
            tell(tick)
            return tick

    def forever(self, tell: Callable[[Tick], None]) -> None:
        """Ticks until SIGTERM or SIGINT; a run that goes on then gets SIGTERM, and is taken up by the next watch."""
        with self._stopping():
            while not self._stopped.is_set():
                self.tick(tell)
                self._stopped.wait(seconds_of(self.schedule.every))

    def once(self, tell: Callable[[Tick], None]) -> Tick:
        """One tick; SIGTERM and SIGINT as for `forever`."""
        with self._stopping():
            return self.tick(tell)

    def _decided(self, store: Any, running: str) -> Tick:
        config = self.loaded.config
        previous = next((one for one in newest_first(store, config.name) if not one.looked.running), None)
        looked = look(config, store, self.clock(), running, previous, self.evaluate or self._evaluate)
        decision = decide(config.name, self.schedule, looked, previous.decision.memory if previous else None)
        return Tick(looked=looked, decision=decision, ended=not decision.retrain)

    def _command(self, tick: Tick, store: Any) -> list[str]:
        words = ["run", str(self.loaded.file), "--root", str(self.root), "--json"]
        words += [word for override in self.overrides for word in ("--set", override)]
        if tick.decision.resume:
            config = self.loaded.config
            newest = next(iter(Lineage(config.metadata, config.name, store).runs()), None)
            resumable = newest is not None and newest.outcome in ("failed", "unfinished")
            if newest is not None and resumable and newest.config_digest == self.loaded.digest:
                words.append("--resume")
        return [sys.executable, "-P", "-m", "runners.cli", *words]

    def _start(self, command: list[str]) -> tuple[int, str]:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            if self._stopped.is_set():
                self._process.terminate()
            out, _ = self._process.communicate()
            return self._process.returncode, out
        finally:
            self._process = None

    def _evaluate(self, job: Mapping[str, Any]) -> Outcome:
        def begun(child: Child) -> None:
            self._evaluation = child
            if self._stopped.is_set():
                child.stop()

        try:
            return evaluate(job, begun)
        finally:
            self._evaluation = None

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            self._stopped.set()
            if self._process is not None:
                self._process.terminate()
            if self._evaluation is not None:
                self._evaluation.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _ended(tick: Tick, code: int, out: str) -> Tick:
    try:
        answer = json.loads(out)
    except ValueError:
        answer = {}
    run, outcome = str(answer.get("run", "")), str(answer.get("outcome", "failed"))
    return tick.model_copy(update={"run": run, "outcome": outcome, "exit_code": code, "ended": True})


def exit_code_of(tick: Tick) -> int:
    """Of `satisfice watch --once`: of the run; without one 0, or 1 where the data could not be looked at or it was cut off."""
    if tick.decision.retrain:
        return 1 if tick.exit_code is None else tick.exit_code
    return 1 if tick.looked.problem else 0
