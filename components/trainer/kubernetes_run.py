"""A training cluster in Kubernetes: its Job created, watched and cleaned up by the Trainer node. Imports no TensorFlow.

An attempt is a Job of its own. Whatever ends it - success, a loss, SIGTERM, an exception - its Job, its Service and its pods
go; what a runner left that was killed goes when the next one begins in the same pipeline root.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components import progress
from components.process import sigterm_raised
from components.trainer.cluster import Losses, Task, raise_what_stays, tasks_of
from components.trainer.kubernetes import FAILS_AGAIN, OWNER, Group, faults_of_volume, job, service
from components.trainer.kubernetes_api import Api, LogBrokenOff, Object, ResourceVersionExpired
from components.trainer.pod import PROGRESS
from components.trainer.sightings import Sighting, lost_task, sight, words_of_events
from components.trainer.strategy import Plan
from schemas.config import KubernetesConfig
from schemas.errors import ConfigError, KubernetesError, shorten

__all__ = ["Errand", "check_on_volume", "labels_of", "run_in_kubernetes"]

_log = logging.getLogger(__name__)

_WINDOW_S = 2
"""So long a watch lasts, between two looks at everything else."""
_LOGS_EVERY_S = 4.0
_LEAVE_S = 25.0
"""Kubernetes grants the Trainer's own pod 30 s from SIGTERM to SIGKILL."""
_BEYOND_GRACE_S = 30.0
_BEATS_EVERY_S = 2.0
_ALIVE_WITHIN_S = 3 * _BEATS_EVERY_S
_NAME = 35
_LABEL = 63


@dataclass(frozen=True)
class Errand:
    """What is trained, for whom.

    Attributes:
        pipeline: its name.
        root: folder that is equal for all runs in one pipeline root: whose leftovers these are.
        run: what names this run of the node.
        work: JSON values that each member gets.
        logs: folder that takes a log for each member, which goes on where the group begins anew.
    """

    pipeline: str
    root: Path
    run: str
    work: Mapping[str, Any]
    logs: Path


def labels_of(pipeline: str, claim: str, root: str, run: str) -> dict[str, str]:
    """Of every object of a training: whose it is.

    Args:
        pipeline: its name.
        claim: of the volume; what is mounted at the same path in another pipeline is another's.
        root: folder that is equal for all runs in one pipeline root.
        run: what names this run of the node.
    """
    return {
        "app.kubernetes.io/name": _dns(pipeline),
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/managed-by": "satisfice",
        OWNER: hashlib.sha256(f"{pipeline} {claim}:{root}".encode()).hexdigest()[:16],
        "satisfice/run": _dns(run)[:_LABEL],
    }


def check_on_volume(config: KubernetesConfig, paths: Iterable[tuple[str, str]]) -> None:
    """Makes sure that the pods see what they need.

    Args:
        config: with the volume.
        paths: what is needed, in words, and where it lies for the Trainer node; "" where it is nowhere.

    Raises:
        ConfigError: something lies elsewhere; with every such thing.
    """
    faults = [fault for what, path in paths if path for fault in faults_of_volume(config.volume, what, path)]
    if faults:
        raise ConfigError("training.cluster: kubernetes", faults)


def run_in_kubernetes(plan: Plan, config: KubernetesConfig, errand: Errand) -> Losses:
    """Runs a training as pods until all of them are done that have something of their own to do.

    Args:
        plan: of the members.
        config: where they run.
        errand: what they do.

    Returns:
        How often the group, and workers of it, began anew.

    Raises:
        KubernetesError: the cluster cannot be reached, or refuses; a pod does not start; the group was lost too often.
        SatisficeError: what a member raised that would be raised again.
    """
    api = Api(config)
    with contextlib.closing(api):
        api.check_access()
        shutil.rmtree(errand.logs, ignore_errors=True)
        errand.logs.mkdir(parents=True)
        labels = labels_of(errand.pipeline, config.volume.claim, str(errand.root), errand.run)
        with _alive(errand) as name, sigterm_raised():
            _remove_leftovers(api, labels, errand.root, config.grace_s + _BEYOND_GRACE_S)
            work = errand.logs / "work.json"
            work.write_text(json.dumps({**errand.work, "logs": str(errand.logs)}), encoding="utf-8")
            group = Group(name, tasks_of(plan), config, str(work), labels)
            return _attempts(api, group, errand.logs)


def _attempts(api: Api, group: Group, logs: Path) -> Losses:
    replaced, lost = 0, None
    for attempt in range(group.config.restarts + 1):
        one = _Attempt(api, replace(group, name=f"{group.name}-{attempt}"), logs)
        lost = one.run()
        replaced += one.replaced
        if lost is None:
            return Losses(attempt, replaced)
        raise_what_stays(group.tasks, logs)
        if lost.code == FAILS_AGAIN or lost.hopeless:
            raise _lost_for_good(group, lost, logs)
        if group.tasks[lost.index].spared:  # it has begun anew alone as often as it may
            break
    assert lost is not None
    task = group.tasks[lost.index]
    raise KubernetesError(
        f"the cluster of {len(group.tasks)} pods",
        f"lost {task.name} {group.config.restarts + 1} times: {shorten(lost.why, 600)}",
        remedy=f"Read the logs in {logs}.",
    )


def _lost_for_good(group: Group, lost: Sighting, logs: Path) -> KubernetesError:
    name = group.tasks[lost.index].name
    remedy = f"Its log is {logs / f'{name}.log'}."
    if "OOMKilled" in lost.why:
        asked = group.config.resources.memory
        had = (
            f"the {asked} of training.kubernetes.resources.memory" if asked is not None else "what its machine had left"
        )
        remedy = (
            f"It took more memory than {had}. Give it more; the training goes on from the state that was kept. {remedy}"
        )
    return KubernetesError(f"pod {lost.pod} ({name})", shorten(lost.why, 600), remedy=remedy)


# --- one attempt ------------------------------------------------------------------------------------------------------


class _Attempt:
    """One Job, from its making to the end of its last pod.

    Attributes:
        replaced: how many workers began anew alone.
    """

    def __init__(self, api: Api, group: Group, logs: Path) -> None:
        self.replaced = 0
        self._api, self._group = api, group
        self._watch = _Watch(api, group.selector)
        self._logs = _Logs(api, group.tasks, logs)
        self._channel = logs / PROGRESS
        self._missing_since = dict.fromkeys(range(len(group.tasks)), time.monotonic())

    def run(self) -> Sighting | None:
        """Until it is done or lost; who was lost."""
        patience = self._group.config.grace_s + _BEYOND_GRACE_S
        try:
            made = self._api.create_job(job(self._group, watched=True))
            owner = {"name": self._group.name, "uid": made["metadata"]["uid"]}
            self._api.create_service(service(self._group, owner))
            _log.info(
                "Job %s of %d pods in namespace %s",
                self._group.name,
                len(self._group.tasks),
                self._group.config.namespace,
            )
            return self._wait(owner["uid"])
        except (SystemExit, KeyboardInterrupt):
            patience = _LEAVE_S
            raise
        finally:
            self._end(patience)

    def _wait(self, uid: str) -> Sighting | None:
        while True:
            self._watch.look(_WINDOW_S)
            seen = self._watch.sightings()
            found = self._api.job(self._group.name)
            self._logs.pump(seen)
            self._tell(seen)
            if self._is_done(seen):
                return None
            if found is None or found["metadata"]["uid"] != uid:
                raise KubernetesError(
                    f"Job {self._group.name}",
                    f"was deleted by somebody else in namespace {self._group.config.namespace}",
                    remedy="Run again; the training goes on from the state that was kept.",
                )
            self.replaced = sum(one.state == "lost" and self._group.tasks[one.index].spared for one in seen)
            lost = lost_task(self._group.tasks, seen) or self._one_too_many(seen)
            if lost is not None:
                return lost
            self._check_job(found)
            self._check_started(seen, uid)

    def _is_done(self, seen: Sequence[Sighting]) -> bool:
        done = {one.index for one in seen if one.state == "done"}
        return all(index in done for index, task in enumerate(self._group.tasks) if not task.serves)

    def _one_too_many(self, seen: Sequence[Sighting]) -> Sighting | None:
        """A worker that was spared more often than it may be."""
        losses: dict[int, list[Sighting]] = {}
        for one in seen:
            if one.state == "lost":
                losses.setdefault(one.index, []).append(one)
        return next((all_of[-1] for all_of in losses.values() if len(all_of) > self._group.config.restarts), None)

    def _check_job(self, found: Object) -> None:
        """A Job that has failed without the loss of a pod: a deadline or a policy that somebody else set."""
        for condition in (found.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "Failed" and condition.get("status") == "True" and not self._watch.is_behind():
                raise KubernetesError(
                    f"Job {self._group.name}",
                    f"has failed: {condition.get('reason', '')}: {shorten(condition.get('message', ''), 400)}",
                )

    def _check_started(self, seen: Sequence[Sighting], uid: str) -> None:
        """Every member has to run within the deadline, from the beginning or from when it was lost."""
        now = time.monotonic()
        running = {one.index for one in seen if one.state in ("running", "done")}
        for index in range(len(self._group.tasks)):
            if index in running:
                self._missing_since[index] = now
        waited = {index: now - since for index, since in self._missing_since.items() if index not in running}
        hopeless = [one for one in seen if one.state == "waiting" and one.hopeless]
        if not hopeless and (not waited or max(waited.values()) <= self._group.config.start_deadline_s):
            return
        index = hopeless[0].index if hopeless else max(waited, key=lambda one: waited[one])
        pod = next((one for one in seen if one.index == index and one.state == "waiting"), None)
        why = pod.why if pod and pod.why else words_of_events(self._api.events(pod.uid if pod else uid))
        problem, remedy = "cannot start", "Correct training.kubernetes.image."
        if not hopeless:
            problem = f"has not started within {self._group.config.start_deadline_s} s"
            remedy = "Mend that, or give it longer: training.kubernetes.start_deadline_s."
        raise KubernetesError(
            f"pod {pod.pod if pod else index} ({self._group.tasks[index].name})",
            f"{problem}: {shorten(why or 'nobody says why', 500)}",
            remedy=remedy,
        )

    def _tell(self, seen: Sequence[Sighting]) -> None:
        found = progress.read(self._channel)
        if found is not None:
            progress.pass_on(found)
            return
        states = [one.state for one in seen]
        waiting = next((one.why for one in seen if one.state == "waiting" and one.why), "")
        about = f"{states.count('running')} of {len(self._group.tasks)} pods run"
        progress.note(f"{about}; {shorten(waiting, 80)}" if waiting else about)

    def _end(self, patience_s: float) -> None:
        """Deletes everything, and waits until no pod is left that could still write, for as long as they may take."""
        try:
            self._keep_logs(self._watch.sightings())
            self._api.delete(self._group.name)
            self._wait_for_end(patience_s)
        except (SystemExit, KeyboardInterrupt):  # while something else ended it
            self._api.delete(self._group.name)
            raise
        except KubernetesError as error:  # what ended the attempt says more
            words = "Job %s could not be deleted, and will be when the next training begins in this pipeline root: %s"
            _log.warning(words, self._group.name, error)

    def _wait_for_end(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            left, _ = self._api.pods(self._group.selector)
            if not left:
                return
            self._keep_logs([sight(pod) for pod in left])
            time.sleep(_WINDOW_S / 4)
        _warn_of_pods(self._group.name, patience_s)

    def _keep_logs(self, seen: Sequence[Sighting]) -> None:
        """As far as the volume takes them: the pods have to go all the same."""
        with contextlib.suppress(OSError):
            self._logs.pump(seen, final=True)


class _Watch:
    """The pods of a Job, as far as they are known."""

    def __init__(self, api: Api, selector: Mapping[str, str]) -> None:
        self._api, self._selector = api, selector
        self._pods: dict[str, Object] = {}
        self._gone: dict[str, Sighting] = {}
        self._version = ""

    def sightings(self) -> list[Sighting]:
        """Of all pods that there were."""
        return [*self._gone.values(), *(sight(pod) for pod in self._pods.values())]

    def is_behind(self) -> bool:
        """Whether the list that is made now shows a pod that has ended and was not known to have."""
        before = self.sightings()
        self._list()
        return self.sightings() != before

    def look(self, seconds: int) -> None:
        """Hears of changes for some seconds, or until a pod has ended."""
        if not self._version:
            self._list()
        try:
            for kind, pod in self._api.changes_of_pods(self._selector, self._version, seconds):
                self._version = pod["metadata"]["resourceVersion"]
                if kind != "BOOKMARK" and self._take(kind, pod):
                    return
        except ResourceVersionExpired:
            self._list()

    def _take(self, kind: str, pod: Object) -> bool:
        """Whether the pod has ended."""
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._pods.pop(uid, None)
            self._has_gone(pod)
            return True
        self._pods[uid] = pod
        return sight(pod).state in ("done", "lost")

    def _list(self) -> None:
        pods, self._version = self._api.pods(self._selector)
        found = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, pod in self._pods.items():
            if uid not in found:
                self._has_gone(pod)
        self._pods = found

    def _has_gone(self, pod: Object) -> None:
        """A pod that was deleted is lost, unless it was done before."""
        last = sight(pod)
        if last.state in ("running", "waiting"):
            last = replace(last, state="lost", why=last.why or "the pod was deleted")
        self._gone[last.uid] = last


@dataclass
class _Read:
    """How far the log of a pod was read.

    Attributes:
        last: the time of its last line.
        at: when it was read to its end, by the monotonic clock.
        whole: whether it was read to its end after the pod's.
        begun: whether its heading was written.
    """

    last: bytes = b""
    at: float | None = None
    whole: bool = False
    begun: bool = False


@dataclass
class _Logs:
    """What pods say, a file for each member."""

    api: Api
    tasks: Sequence[Task]
    folder: Path
    read: dict[str, _Read] = field(default_factory=dict)

    def pump(self, seen: Sequence[Sighting], *, final: bool = False) -> None:
        """Appends what is new; what could not be read is read the next time."""
        now = time.monotonic()
        for one in seen:
            known = self.read.setdefault(one.uid, _Read())
            ended = one.state in ("done", "lost")
            due = known.at is None or ended or final or now - known.at >= _LOGS_EVERY_S
            if one.state == "waiting" or known.whole or not due:
                continue
            since = None if known.at is None else int(now - known.at) + 2
            try:
                self._append(one, known, self.api.log(one.pod, since))
            except LogBrokenOff:
                continue
            known.at, known.whole = now, ended

    def _append(self, one: Sighting, known: _Read, lines: Iterable[bytes]) -> None:
        file, before = self.folder / f"{self.tasks[one.index].name}.log", known.last
        with file.open("ab") as out:
            if not known.begun:
                out.write(f"--- pod {one.pod}\n".encode())
                known.begun = True
            for line in lines:
                stamp, _, words = line.partition(b" ")
                stamp = _padded(stamp)
                if stamp > before:
                    out.write(words)
                    known.last = max(known.last, stamp)


def _padded(stamp: bytes) -> bytes:
    """A time whose fraction has nine digits, so that times compare as text: RFC 3339 leaves zeros out."""
    whole, _, fraction = stamp.rstrip(b"Z").partition(b".")
    return whole + b"." + fraction.ljust(9, b"0")


# --- what a killed runner leaves --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alive(errand: Errand) -> Iterator[str]:
    """A name for the attempts of this training that nobody else has, and a sign, beside the outputs, that somebody cares."""
    name = f"{_dns(errand.pipeline)[:_NAME].rstrip('-')}-{secrets.token_hex(4)}"
    sign, over = _sign(errand.root, name), threading.Event()
    _give_sign(sign, 0)  # before there is a Job of this name

    def beat() -> None:
        count = 0
        while not over.wait(_BEATS_EVERY_S):
            count += 1
            with contextlib.suppress(OSError):
                _give_sign(sign, count)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield name
    finally:
        over.set()
        thread.join()
        sign.unlink(missing_ok=True)


def _remove_leftovers(api: Api, labels: Mapping[str, str], root: Path, patience_s: float) -> None:
    """Deletes the Jobs of this pipeline root that nobody watches any more, and waits until their pods are gone."""
    found = [one["metadata"]["name"] for one in api.jobs({OWNER: labels[OWNER]})]
    before = {name: _beats(root, name) for name in found}
    if any(beats is not None for beats in before.values()):
        time.sleep(_ALIVE_WITHIN_S)
    left = [name for name in found if before[name] is None or _beats(root, name) == before[name]]
    for name in left:
        _log.warning("Job %s was left by a run that is gone: deleted", name)
        api.delete(name)
        _sign(root, name.rpartition("-")[0]).unlink(missing_ok=True)
    deadline = time.monotonic() + patience_s
    for name in left:
        while api.pods({"satisfice/job": name})[0]:
            if time.monotonic() >= deadline:
                _warn_of_pods(name, patience_s)
                break
            time.sleep(_WINDOW_S / 4)


def _warn_of_pods(job_name: str, patience_s: float) -> None:
    _log.warning("pods of %s have not ended within %.0f s: is a machine gone?", job_name, patience_s)


def _sign(root: Path, name: str) -> Path:
    return root / f".cluster-{name}"


def _give_sign(sign: Path, count: int) -> None:
    """Writes over what is there, so that it is never empty again, nor takes more room on a volume that is full."""
    file = os.open(sign, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(file, b"%020d" % count, 0)
    finally:
        os.close(file)


def _beats(root: Path, job_name: str) -> bytes | None:
    """What the sign of life says, b"" where it cannot be read now; None where there is none."""
    try:
        return _sign(root, job_name.rpartition("-")[0]).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _dns(name: str) -> str:
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name.lower()).strip("-") or "run"
