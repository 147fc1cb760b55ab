"""The lock of a base path: one publisher at a time, on one machine and across a network file system.

Two things make the lock, both in `BASE/.satisfice`:

- `lock`, locked with flock. The system frees it when its process ends, so that on one machine nothing can be left over.
- `owner`, which says who holds it, made by a hard link (which either makes the name or fails, also over NFS) and
  touched while it is held. Where flock does not reach other machines, or is missing, this file alone keeps them apart.

An `owner` that was left behind is taken away: at once where flock vouches for it (the same boot of the same machine), or
where its process is gone; else after it has not been touched for `lease_s`, by the waiting machine's own steady clock, so
that clocks need not agree. A holder that slept through its lease finds out (`Held.check`) before it commits. Should two
publish all the same, numbers stay unique and versions whole: a number is claimed by a link of its own.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import StoreBusyError, StoreError
from serving.store.disk import FileSystem, explained

__all__ = ["Held", "locked", "owner_of"]

_POLL_S = 0.02
_BEATS_PER_LEASE = 6
_NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class Held:
    """The lock while it is held.

    Attributes:
        folder: `BASE/.satisfice`.
        token: what the owner's file says of this holder alone.
        descriptor: of the locked file.
    """

    folder: Path
    token: str
    descriptor: int

    def check(self) -> None:
        """Make sure that the lock is still held, before a step that needs it.

        Raises:
            StoreError: the lock's files were removed, or another publisher took over.
        """
        if (
            _is_open_at(self.descriptor, self.folder / "lock")
            and _read(self.folder / "owner").get("token") == self.token
        ):
            return
        raise StoreError(
            str(self.folder),
            "the lock was lost while it was held: its files were removed, or this process was halted for so long"
            " that another publisher took over",
            remedy="Do it again. Nothing was published; earlier versions are untouched.",
        )


@contextmanager
def locked(folder: Path, timeout_s: float, lease_s: float) -> Iterator[Held]:
    """Hold the lock of the base path that `folder` stands in.

    Args:
        folder: `BASE/.satisfice`, which exists.
        timeout_s: how long to wait for another holder, in seconds.
        lease_s: how long a holder on another machine may give no sign of life, in seconds.

    Raises:
        StoreBusyError: another publisher kept the lock for longer than `timeout_s`.
        StoreError: the disk refuses.
    """
    with explained(folder.parent, f"lock {folder / 'lock'}"):
        held = _Waiting(folder, timeout_s, lease_s, me=_me()).acquire()
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(held, ended, lease_s / _BEATS_PER_LEASE), daemon=True)
    beating.start()
    try:
        yield held
    finally:
        ended.set()
        beating.join()
        with suppress(OSError):
            if _read(folder / "owner").get("token") == held.token:
                (folder / "owner").unlink()
        os.close(held.descriptor)


def owner_of(folder: Path) -> dict[str, Any]:
    """Who holds the lock of the base path that `folder` stands in, as far as its files tell; empty where nobody does."""
    return _read(folder / "owner")


def _beat(held: Held, ended: threading.Event, period_s: float) -> None:
    """Touches the owner's file until the lock is given up."""
    while not ended.wait(period_s):
        with suppress(OSError):
            if _read(held.folder / "owner").get("token") == held.token:
                os.utime(held.folder / "owner")


@dataclass
class _Waiting:
    """One attempt to take the lock."""

    folder: Path
    timeout_s: float
    lease_s: float
    seen: tuple[object, ...] = ()
    seen_since: float = 0.0
    me: dict[str, Any] = field(default_factory=dict)

    def acquire(self) -> Held:
        deadline = time.monotonic() + self.timeout_s
        while True:
            held = self._try()
            if held is not None:
                return held
            if time.monotonic() >= deadline:
                raise self._busy()
            time.sleep(_POLL_S)

    def _try(self) -> Held | None:
        path = self.folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            flocked = _flock(descriptor)
            if flocked is not False and _is_open_at(descriptor, path) and self._own(trusted=flocked is True):
                held = Held(self.folder, self.me["token"], descriptor)
                descriptor = -1
                return held
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _own(self, *, trusted: bool) -> bool:
        """Makes the owner's file; False where another holder's stands there."""
        if (self.folder / "owner").exists():
            if self._is_left_over(trusted=trusted):
                self._take_away()
            return False
        mine = self.folder / f"owner-{self.me['token']}"
        try:
            mine.write_text(json.dumps(self.me), encoding="utf-8")
            FileSystem().claim(mine, self.folder / "owner")
        except (FileExistsError, FileNotFoundError):  # another was quicker, and may have swept this file away
            return False
        else:
            return True
        finally:
            with suppress(OSError):
                mine.unlink()

    def _is_left_over(self, *, trusted: bool) -> bool:
        owner = _read(self.folder / "owner")
        if owner and owner.get("boot") == self.me["boot"]:
            if trusted:
                return True
            if owner.get("pids") == self.me["pids"]:
                return _started(int(owner["pid"])) != owner.get("started")
        return self._is_silent(owner)

    def _is_silent(self, owner: dict[str, Any]) -> bool:
        with suppress(FileNotFoundError):
            now = (owner.get("token"), (self.folder / "owner").stat().st_mtime_ns)
            if now != self.seen:
                self.seen, self.seen_since = now, time.monotonic()
        return bool(self.seen) and time.monotonic() - self.seen_since >= self.lease_s

    def _take_away(self) -> None:
        """Removes the file that was left behind, and no other that may have come in its place."""
        stale = _read(self.folder / "owner").get("token")
        away = self.folder / f"owner-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            (self.folder / "owner").rename(away)
            if _read(away).get("token") != stale:
                with suppress(FileExistsError):
                    FileSystem().claim(away, self.folder / "owner")
            away.unlink(missing_ok=True)

    def _busy(self) -> StoreBusyError:
        owner = {key: value for key, value in _read(self.folder / "owner").items() if key in ("pid", "host", "since")}
        return StoreBusyError(
            str(self.folder.parent),
            f"another publisher has held the lock for more than {self.timeout_s:g} s: "
            f"{json.dumps(owner) if owner else 'it does not say who it is'}",
            remedy="Wait until it is done and try again. If it hangs, end that process: the lock goes with it.",
        )


def _me() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
        "boot": _boot(),
        "pids": _pid_namespace(),
        "started": _started(os.getpid()),
    }


def _boot() -> str:
    """Of this boot of this machine; containers on one machine share it, and share what flock does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _flock(descriptor: int) -> bool | None:
    """True where the file is locked now, False where another has it locked, None where there is no flock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        raise
    return True


def _is_open_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has its name: a lock on a file that was removed keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """The owner's file; empty where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
