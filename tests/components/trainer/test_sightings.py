"""What a pod does, by what the API shows of it: states and words as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest

from components.trainer.cluster import Task
from components.trainer.kubernetes import FAILS_AGAIN
from components.trainer.sightings import Sighting, lost_task, sight, words_of_events

INDEX = "batch.kubernetes.io/job-completion-index"


def pod(status: dict[str, Any] | None, **metadata: Any) -> dict[str, Any]:
    named = {"uid": "u", "name": "taxi-1-0-2-abcde", **metadata}
    return {"metadata": named, **({"status": status} if status is not None else {})}


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"terminated": {"exitCode": code, **more}}}]}


def waits(**more: str) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": more}}]}


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (None, "waiting", ""),
        ({"phase": "Pending"}, "waiting", ""),
        (waits(reason="ContainerCreating"), "waiting", ""),
        (waits(reason="ErrImagePull", message="not\nfound"), "waiting", "ErrImagePull: not found"),
        ({"phase": "Running"}, "running", ""),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, "running", ""),
        ({"phase": "Succeeded", **ended(0)}, "done", ""),
        (
            {"phase": "Running", **ended(3, reason="Error", message="a\nlast words\n")},
            "lost",
            "last words; exit code 3",
        ),
        ({"phase": "Failed", **ended(137, reason="OOMKilled")}, "lost", "OOMKilled; exit code 137"),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk is full"}, "lost", "Evicted: disk is full"),
    ],
)
def test_states(status: dict[str, Any] | None, state: str, why: str) -> None:
    """Each with the words of whoever knows why."""
    found = sight(pod(status))
    assert (found.state, found.why) == (state, why)


def test_a_disruption_is_told_with_its_reason() -> None:
    """The scheduler needed the place, a machine was drained: the pod's conditions say so, once."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "preempted",
    }
    status = {"phase": "Failed", "conditions": [condition, condition], **ended(143, reason="Error")}
    assert sight(pod(status)).why == "PreemptionByScheduler: preempted; exit code 143"


@pytest.mark.parametrize(
    ("metadata", "index"),
    [
        ({"annotations": {INDEX: "5"}}, 5),
        ({"labels": {INDEX: "6"}}, 6),
        ({}, 2),
        ({"name": "nameless"}, -1),
    ],
)
def test_the_completion_index(metadata: dict[str, Any], index: int) -> None:
    """Of the annotation, which every version writes; of the label; of the name."""
    assert sight(pod({}, **metadata)).index == index


def lost(index: int, code: int = 1, *, hopeless: bool = False) -> Sighting:
    return Sighting(f"u{index}", "p", index, "lost", code=code, hopeless=hopeless)


def test_whose_loss_counts() -> None:
    """A worker beside parameter servers is spared, unless it would fail again; what would is told before all else."""
    tasks = [Task("chief", 0), Task("ps", 0, serves=True), Task("worker", 0, serves=True, spared=True)]
    running = Sighting("u", "p", 0, "running")
    assert lost_task(tasks, [running, lost(2)]) is None
    assert lost_task(tasks, [lost(1), running]) == lost(1)
    assert lost_task(tasks, [lost(1), lost(2, FAILS_AGAIN)]) == lost(2, FAILS_AGAIN)
    assert lost_task(tasks, [lost(0), lost(2, hopeless=True)]) == lost(2, hopeless=True)


def test_the_newest_warning() -> None:
    """By either of the times that events have; what is normal is none."""
    events = [
        {"type": "Warning", "reason": "Old", "message": "one", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"type": "Warning", "reason": "FailedCreate", "message": "two", "eventTime": "2026-01-01T00:00:01.5Z"},
        {"type": "Normal", "reason": "SuccessfulCreate", "message": "three", "lastTimestamp": "2026-01-02T00:00:00Z"},
    ]
    assert words_of_events(events) == "FailedCreate: two"
    assert not words_of_events(events[2:])
