"""What each pod of a training cluster runs: `python -m components.trainer.pod WORK_FILE`. Imports no TensorFlow.

It tells from its completion index which member it is, waits for the names of the others, and starts the member as its
child: the first process of a container hears no signal that it does not ask for, and may not end as a signal would end it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.trainer.kubernetes import ADDRESSES, CLUSTER, FAILS_AGAIN, GRACE, START_DEADLINE, task_at
from schemas.errors import SatisficeError, shorten

__all__ = ["PROGRESS", "main", "place_of"]

PROGRESS = "chief.progress"
"""Beside the logs: how far the chief is."""

_LOST = 1
_POLL_S = 0.2
_BEFORE_KILL_S = 5.0
_ENDED = ".ended"


@dataclass(frozen=True)
class Place:
    """Which member this pod is.

    Attributes:
        cluster: TF_CONFIG's `cluster`, by addresses that this pod reaches.
        role, index: as TF_CONFIG names it.
        is_chief: whether it writes what is kept.
        serves: whether it answers others until it is ended.
    """

    cluster: Mapping[str, Sequence[str]]
    role: str
    index: int

    @property
    def name(self) -> str:
        """As `cluster.Task.name`."""
        return f"{self.role}-{self.index}"

    @property
    def chief(self) -> str:
        """The name of the member that writes what is kept."""
        return "chief-0" if "chief" in self.cluster else "worker-0"

    @property
    def serves(self) -> bool:
        """Whether it answers the chief until somebody ends it."""
        return "ps" in self.cluster and self.role != "chief"

    @property
    def tf_config(self) -> str:
        """For TensorFlow."""
        return json.dumps({"cluster": self.cluster, "task": {"type": self.role, "index": self.index}})


def place_of(environment: Mapping[str, str]) -> Place:
    """Which member a pod is, by its environment.

    Raises:
        SatisficeError: a variable is missing or says nothing sensible.
    """
    try:
        cluster = json.loads(environment[CLUSTER])
        role, index = task_at(cluster, int(environment["JOB_COMPLETION_INDEX"]))
        known = json.loads(environment.get(ADDRESSES, "{}"))
        reached = {name: [known.get(host, host) for host in hosts] for name, hosts in cluster.items()}
    except KeyError as error:
        raise SatisficeError(
            "the pod", f"lacks the variable {error.args[0]}", expected="a pod of an Indexed Job as it was rendered"
        ) from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise SatisficeError(
            "the pod",
            f"does not find itself in its cluster: {error}",
            expected=f"JOB_COMPLETION_INDEX within {CLUSTER}",
            got=f"{environment['JOB_COMPLETION_INDEX']} in {environment[CLUSTER]}",
        ) from error
    return Place(reached, role, index)


def main(work_file: Path) -> int:
    """Is a member of the cluster until it has done its work; the exit status.

    Returns:
        0 done; `FAILS_AGAIN` where it would fail in the same way again; else it was lost, or has lost another one.
    """
    ending = _Ending()
    signal.signal(signal.SIGTERM, ending.hear)
    try:
        place = place_of(os.environ)
        work = _work(work_file)
        logs = Path(work["logs"])
        failure = logs / f"{place.name}.failure.json"
        (logs / f"{place.name}{_ENDED}").unlink(missing_ok=True)
        failure.unlink(missing_ok=True)
    except (SatisficeError, OSError) as error:
        _say(f"error: {error}")
        return FAILS_AGAIN
    unknown = _wait_for_names(place, ending)
    if unknown:
        _say(f"error: the name {unknown} is not known: is the headless Service there, and every pod started?")
        return _LOST
    if ending.heard_at is not None:
        return 128 + signal.SIGTERM
    child = _begin(place, work, failure, logs)
    status = _wait(child, place, logs, ending)
    (logs / f"{place.name}{_ENDED}").touch()
    return _told(status, failure)


class _Ending:
    """SIGTERM, as it came.

    Attributes:
        heard_at: when, by the monotonic clock; None where it has not come.
    """

    heard_at: float | None = None

    def hear(self, *_: object) -> None:
        self.heard_at = self.heard_at or time.monotonic()


def _work(file: Path) -> dict[str, Any]:
    try:
        work: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SatisficeError(
            str(file),
            f"cannot be read in the pod: {error}",
            expected="the file that the Trainer node wrote there",
            remedy="Is the claim of training.kubernetes.volume the volume on which the pipeline root lies, at the same path,"
            " and may user 10001 read it?",
        ) from error
    return work


def _wait_for_names(place: Place, ending: _Ending) -> str:
    """A name that is still unknown after the deadline; "" where all are known, or this pod is to end."""
    deadline = time.monotonic() + float(os.environ.get(START_DEADLINE, "600"))
    for address in (one for hosts in place.cluster.values() for one in hosts):
        host = address.rpartition(":")[0]
        while ending.heard_at is None and not _is_known(host):
            if time.monotonic() > deadline:
                return host
            time.sleep(_POLL_S)
    return ""


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _begin(place: Place, work: dict[str, Any], failure: Path, logs: Path) -> subprocess.Popen[bytes]:
    told = {
        **work,
        "parent": os.getpid(),
        "failure": str(failure),
        "channel": str(logs / PROGRESS) if place.name == place.chief else None,
    }
    file = logs / f"{place.name}.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    environment = {**os.environ, "TF_CONFIG": place.tf_config, "TF_USE_LEGACY_KERAS": "1"}
    _say(f"{place.name} of {sum(map(len, place.cluster.values()))} members")
    return subprocess.Popen(
        [sys.executable, "-m", "components.trainer.member", str(file)],
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _wait(child: subprocess.Popen[bytes], place: Place, logs: Path, ending: _Ending) -> int:
    """Waits for the member. One with work of its own is asked to end as this pod is; one that serves is left to the chief."""
    asked = False
    while True:
        try:
            return child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        if ending.heard_at is None:
            continue
        if not place.serves and not asked:
            asked = True
            child.send_signal(signal.SIGTERM)
        late = time.monotonic() > ending.heard_at + float(os.environ.get(GRACE, "60")) - _BEFORE_KILL_S
        if late or (place.serves and (logs / f"{place.chief}{_ENDED}").exists()):
            os.killpg(child.pid, signal.SIGKILL)


def _told(status: int, failure: Path) -> int:
    """The exit status of the pod, by that of the member and by what it has left."""
    try:
        said = json.loads(failure.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return status if status >= 0 else 128 - status
    _say(f"error: {shorten(said['cause'], 600)}")
    return FAILS_AGAIN if said.get("error") or not said["retry"] else _LOST


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
