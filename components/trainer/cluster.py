"""A cluster on this machine: the processes of a training, started and watched as one group. Imports no TensorFlow.

Each member is a process group of its own and dies with the process that started it. Where one is lost without which the
others cannot go on, all are ended and begin anew from the state that the chief wrote last. A worker beside parameter
servers can be spared: it alone begins anew at its address, and the chief, which hands out again what it had not done, goes
on. Both happen a bounded number of times.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components import progress
from components.process import sigterm_raised
from components.trainer.strategy import Plan
from schemas.errors import SatisficeError, from_record, shorten

__all__ = ["RESTARTS", "Losses", "Task", "raise_what_stays", "run_cluster", "tasks_of"]

RESTARTS = 3
"""How often a group begins anew, and how often each worker that can be spared."""

_POLL_S = 0.1
_GRACE_S = 25.0
"""Kubernetes grants 30 s from SIGTERM to SIGKILL."""
_TAIL_BYTES = 4000
_ATTEMPT = b"--- attempt"


@dataclass(frozen=True)
class Task:
    """A member of the cluster.

    Attributes:
        role: as TF_CONFIG names it.
        index: among those of its role.
        serves: whether it answers others until it is ended; the group is done without it.
        spared: whether the others go on where it is lost.
    """

    role: str
    index: int
    serves: bool = False
    spared: bool = False

    @property
    def name(self) -> str:
        """For its log."""
        return f"{self.role}-{self.index}"


@dataclass(frozen=True)
class Losses:
    """What became of a group on its way.

    Attributes:
        restarts: how often all began anew.
        replaced: how often a worker alone did.
    """

    restarts: int
    replaced: int

    def as_record(self) -> dict[str, int]:
        """Plain JSON values for the lineage."""
        return asdict(self)


def tasks_of(plan: Plan) -> list[Task]:
    """The members of a planned cluster, the one that writes what is kept first."""
    if not plan.parameter_servers:
        return [Task("worker", index) for index in range(plan.workers)]
    servers = [Task("ps", index, serves=True) for index in range(plan.parameter_servers)]
    workers = [Task("worker", index, serves=True, spared=True) for index in range(plan.workers)]
    return [Task("chief", 0), *servers, *workers]


def run_cluster(
    plan: Plan, work: dict[str, Any], logs: Path, command: Sequence[str], *, restarts: int = RESTARTS
) -> Losses:
    """Runs a training as a group of processes until all of them are done that have something of their own to do.

    Args:
        plan: with `local_cluster`.
        work: JSON values that each member gets, from a file whose path is its last argument.
        logs: folder that takes a log for each member, which goes on where the group begins anew, and the file.
        command: that starts a member.
        restarts: how often the group may begin anew, and how often each worker that can be spared.

    Returns:
        How often they did.

    Raises:
        SatisficeError: what a member raised that would be raised again; or the group was lost too often.
    """
    logs.mkdir(parents=True, exist_ok=True)
    tasks = tasks_of(plan)
    lost: Task | None = tasks[0]
    replaced: Counter[Task] = Counter()
    for attempt in range(restarts + 1):
        group = _Group(tasks, logs, command, work)
        with sigterm_raised():
            try:
                group.start()
                while (lost := group.wait()) and group.was_killed(lost) and lost.spared and replaced[lost] < restarts:
                    replaced[lost] += 1
                    group.replace(lost)
            except SystemExit:
                group.ask(_GRACE_S)
                raise
            finally:
                group.end()
        if lost is None:
            return Losses(attempt, replaced.total())
        raise_what_stays(tasks, logs)
        if replaced[lost] >= restarts:
            break
    assert lost is not None
    raise SatisficeError(
        f"the cluster of {len(tasks)} processes",
        f"lost {lost.name} {restarts + 1} times: {shorten(_tail(logs / f'{lost.name}.log'), 600)}",
        remedy=f"Read the logs in {logs}. A process that is killed without a word was often out of memory.",
    )


class _Group:
    """One attempt."""

    def __init__(self, tasks: Sequence[Task], logs: Path, command: Sequence[str], work: dict[str, Any]) -> None:
        self._tasks, self._logs, self._command, self._work = tasks, logs, command, work
        self._cluster: dict[str, list[str]] = {}
        self._processes: dict[Task, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        ports = _free_ports(len(self._tasks))
        for task, port in zip(self._tasks, ports, strict=True):
            self._cluster.setdefault(task.role, []).append(f"127.0.0.1:{port}")
        for task in self._tasks:
            self._begin(task)

    def was_killed(self, task: Task) -> bool:
        """Whether a member that is lost has gone without a word."""
        return not self._failure(task).exists()

    def replace(self, task: Task) -> None:
        """Starts a member that is lost anew, where the others look for it."""
        _signal(self._processes[task], signal.SIGKILL)  # what it has started may still run
        self._begin(task)

    def _begin(self, task: Task) -> None:
        channel = progress.channel()
        self._failure(task).unlink(missing_ok=True)
        told = {
            **self._work,
            "parent": os.getpid(),
            "failure": str(self._failure(task)),
            "channel": str(channel) if channel and task == self._tasks[0] else None,
        }
        file = self._logs / f"{task.name}.json"
        file.write_text(json.dumps(told), encoding="utf-8")
        self._processes[task] = self._spawn(task, file)

    def _spawn(self, task: Task, file: Path) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "-1",
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "TF_CONFIG": json.dumps({"cluster": self._cluster, "task": {"type": task.role, "index": task.index}}),
            "TF_USE_LEGACY_KERAS": "1",
        }
        name = self._logs / f"{task.name}.log"
        before = name.read_bytes().count(_ATTEMPT) if name.exists() else 0
        with name.open("ab") as log:
            log.write(_ATTEMPT + f" {before + 1}\n".encode())
            log.flush()
            return subprocess.Popen(
                [*self._command, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait(self) -> Task | None:
        """The first member that is lost; None where all are done that do not only serve."""
        while True:
            codes = {task: process.poll() for task, process in self._processes.items()}
            if all(code == 0 for task, code in codes.items() if not task.serves):
                return None
            lost = [task for task, code in codes.items() if code or (task.serves and code is not None)]
            if lost:
                return min(lost, key=lambda task: task.spared)
            time.sleep(_POLL_S)

    def ask(self, grace_s: float) -> None:
        """Asks those to end that have something of their own to do, and gives them time to keep what they have."""
        running = [one for task, one in self._processes.items() if not task.serves and one.poll() is None]
        deadline = time.monotonic() + grace_s
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Ends whoever still runs."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)
            process.wait()

    def _failure(self, task: Task) -> Path:
        return _failure_of(task, self._logs)


def raise_what_stays(tasks: Sequence[Task], logs: Path) -> None:
    """Raises what a member said that would be said again, whatever became of the others.

    Args:
        tasks: the members.
        logs: folder in which each has left what it said.

    Raises:
        SatisficeError: the first such thing.
    """
    for task in tasks:
        try:
            failure = json.loads(_failure_of(task, logs).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if failure.get("error"):
            raise from_record(failure["error"])
        if not failure["retry"]:
            raise SatisficeError(
                f"training process {task.name}",
                f"failed: {failure['cause']}",
                remedy=f"Its log is {logs / f'{task.name}.log'}.",
            )


def _failure_of(task: Task, logs: Path) -> Path:
    return logs / f"{task.name}.failure.json"


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _tail(file: Path) -> str:
    try:
        text = file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
