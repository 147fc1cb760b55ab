"""What can be seen of a pod of a training cluster: whether it waits, runs, is done or is lost, and in whose words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.trainer.cluster import Task
from components.trainer.kubernetes import FAILS_AGAIN

__all__ = ["Sighting", "lost_task", "sight", "words_of_events"]

State = Literal["waiting", "running", "done", "lost"]

_PASSES = ("ContainerCreating", "PodInitializing", "")
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_INDEX = "batch.kubernetes.io/job-completion-index"
_TELLS_NOTHING = ("Error", "Completed", "")


@dataclass(frozen=True)
class Sighting:
    """One pod, as the API shows it.

    Attributes:
        uid, pod: which.
        index: its completion index.
        state: what it does.
        why: the words for that; "" where there are none.
        code: with which its container has exited; None where it has not.
        hopeless: whether it is of no use to try again.
    """

    uid: str
    pod: str
    index: int
    state: State
    why: str = ""
    code: int | None = None
    hopeless: bool = False


def sight(pod: Mapping[str, Any]) -> Sighting:
    """What a pod does."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    who = {"uid": metadata["uid"], "pod": metadata["name"], "index": _index(metadata)}
    phase = status.get("phase", "Pending")
    container = ((status.get("containerStatuses") or [{}])[0].get("state")) or {}
    ended = container.get("terminated")
    if phase == "Succeeded":
        return Sighting(**who, state="done", code=0)
    if phase == "Failed" or (ended and ended.get("exitCode")):
        code = ended.get("exitCode") if ended else None
        reason = (ended or {}).get("reason", "")
        return Sighting(
            **who, state="lost", why=_why_lost(status, ended or {}), code=code, hopeless=reason == "OOMKilled"
        )
    if "running" in container or phase == "Running":
        return Sighting(**who, state="running")
    waiting = container.get("waiting") or {}
    reason = waiting.get("reason", "")
    return Sighting(**who, state="waiting", why=_why_waiting(status, waiting), hopeless=reason in _NEVER)


def _index(metadata: Mapping[str, Any]) -> int:
    for named in (metadata.get("annotations") or {}, metadata.get("labels") or {}):
        if _INDEX in named:
            return int(named[_INDEX])
    found = re.search(r"-(\d+)-[a-z0-9]+$", metadata["name"])
    return int(found[1]) if found else -1


def _why_waiting(status: Mapping[str, Any], waiting: Mapping[str, Any]) -> str:
    """The words of the kubelet, else those of the scheduler."""
    reason = waiting.get("reason", "")
    if reason not in _PASSES:
        return _joined(reason, waiting.get("message", ""))
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _joined(condition.get("reason", ""), condition.get("message", ""))
    return ""


def _why_lost(status: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    """In the order of what tells most: the pod's own reason, a disruption, the container's."""
    words = [_joined(status.get("reason", ""), status.get("message", ""))]
    words += [
        _joined(condition.get("reason", ""), condition.get("message", ""))
        for condition in status.get("conditions") or ()
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True"
    ]
    reason = ended.get("reason", "")
    last = _last_line(ended.get("message", ""))
    words.append(last if reason in _TELLS_NOTHING else _joined(reason, last))
    told = list(dict.fromkeys(word for word in words if word))
    if "exitCode" in ended:
        told.append(f"exit code {ended['exitCode']}")
    return "; ".join(told)


def _joined(reason: str, message: str) -> str:
    return ": ".join(word for word in (reason, " ".join(message.split())) if word)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def lost_task(tasks: Sequence[Task], sightings: Iterable[Sighting]) -> Sighting | None:
    """The loss without which the others cannot go on: one that says why it would fail again before any other.

    The loss of a member that can be spared is none, unless it would fail again.
    """
    lost = [one for one in sightings if one.state == "lost"]
    serious = [one for one in lost if one.code == FAILS_AGAIN or one.hopeless or not tasks[one.index].spared]
    return min(serious, key=lambda one: (one.code != FAILS_AGAIN, not one.hopeless, one.index), default=None)


def words_of_events(events: Iterable[Mapping[str, Any]]) -> str:
    """The newest warning of an object; "" where there is none."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    if not warnings:
        return ""
    newest = max(warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return _joined(str(newest.get("reason", "")), str(newest.get("message", "")))
