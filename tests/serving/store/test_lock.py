"""The lock: one at a time on one machine and across a network file system, and nothing left over by the dead."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import StoreBusyError, StoreError
from serving.store import lock
from serving.store.lock import locked, owner_of


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    folder = tmp_path / "base" / ".satisfice"
    folder.mkdir(parents=True)
    return folder


def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no flock, as some network mounts."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


class Clock:
    """Stands for `time`: it goes on while somebody sleeps, and by nothing else.

    Attributes:
        meanwhile: what happens in each sleep.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lock, "time", made)
    return made


def owner(inner: Path, **changes: Any) -> Path:
    """The file of a holder that says what this process would say, but for the changes."""
    path = inner / "owner"
    path.write_text(json.dumps({**lock._me(), **changes}))
    return path


def test_it_is_held_and_given_back(inner: Path) -> None:
    """While it is held, its file says by whom; afterwards nothing is left but the file that is locked."""
    with locked(inner, 1, 30) as held:
        found = owner_of(inner)
        assert (found["pid"], found["token"]) == (os.getpid(), held.token)
        held.check()
    assert sorted(os.listdir(inner)) == ["lock"]
    assert owner_of(inner) == {}


@pytest.mark.parametrize("with_flock", [True, False])
def test_one_at_a_time(inner: Path, monkeypatch: pytest.MonkeyPatch, with_flock: bool) -> None:
    """With flock, and by the owner's file alone: no two of eight are ever inside."""
    if not with_flock:
        no_flock(monkeypatch)
    inside, most, turns = [0], [0], []

    def work(who: int) -> None:
        for _ in range(5):
            with locked(inner, 300, 30):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                inside[0] -= 1
            turns.append(who)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], len(turns)) == (1, 40)


def test_an_owner_that_died_on_this_machine_is_no_obstacle(inner: Path) -> None:
    """Flock vouches for it: whoever was killed here no longer holds it, whatever its file says."""
    owner(inner, pid=1, pids="another container", token="dead")
    with locked(inner, 5, 60):
        assert owner_of(inner)["pid"] == os.getpid()


def test_without_flock_a_dead_process_is_told_by_its_number_and_start(
    inner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that another process has now is no sign of life; a living owner is waited for."""
    no_flock(monkeypatch)
    owner(inner, pid=os.getpid(), started="1", token="dead")
    with locked(inner, 5, 60):
        pass
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        owner(inner, pid=sleeper.pid, started=lock._started(sleeper.pid), token="alive")
        with pytest.raises(StoreBusyError, match=f'"pid": {sleeper.pid}'), locked(inner, 0.2, 0.05):
            pass
    finally:
        sleeper.kill()
        sleeper.communicate()
    with locked(inner, 5, 60):
        pass


def test_an_owner_on_another_machine_is_waited_for_while_it_gives_signs_of_life(inner: Path, clock: Clock) -> None:
    """Flock does not reach everywhere: its file counts, and for as long as it is touched."""
    path = owner(inner, boot="of another machine", host="elsewhere", token="alive")
    touched = []

    def touch() -> None:
        if clock.now >= 1000 + 20 * (len(touched) + 1):  # two thirds of the lease
            touched.append(clock.now)
            os.utime(path, (clock.now, clock.now))

    clock.meanwhile = touch
    with pytest.raises(StoreBusyError, match='"host": "elsewhere"'), locked(inner, 100, 30):
        pass
    assert clock.now >= 1100
    assert len(touched) == 5
    assert owner_of(inner)["token"] == "alive"


def test_a_silent_owner_on_another_machine_is_dropped_after_its_lease(inner: Path, clock: Clock) -> None:
    """Counted by the steady clock of who waits: the file may carry any time, even one to come."""
    path = owner(inner, boot="of another machine", token="dead")
    os.utime(path, (4e9, 4e9))
    with locked(inner, 100, 30):
        assert owner_of(inner)["pid"] == os.getpid()
    assert 1030 <= clock.now < 1031
    assert sorted(os.listdir(inner)) == ["lock"]


def test_a_holder_gives_signs_of_life(inner: Path) -> None:
    """Its file is touched again and again, so that another machine's wait goes on."""
    with locked(inner, 1, 0.3):
        os.utime(inner / "owner", (1, 1))
        deadline = time.monotonic() + 120
        while (inner / "owner").stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_owner_file_that_says_nothing_is_waited_out(inner: Path, clock: Clock) -> None:
    """As after a crash of the machine in the middle of its writing."""
    (inner / "owner").write_bytes(b"\0\0\0")
    with locked(inner, 100, 30):
        assert owner_of(inner)["pid"] == os.getpid()
    assert 1030 <= clock.now < 1031


def test_who_slept_through_the_lease_finds_out(inner: Path) -> None:
    """Before the step that counts, and does not take the new holder's file away."""
    with locked(inner, 1, 30) as held:
        owner(inner, token="another")
        with pytest.raises(StoreError, match=r"the lock was lost while it was held.*Do it again"):
            held.check()
    assert owner_of(inner)["token"] == "another"


def test_a_lock_whose_files_were_removed_keeps_nobody_out_and_is_noticed(inner: Path) -> None:
    """Somebody emptied the base path while a publish was under way."""
    with locked(inner, 1, 30) as held:
        shutil.rmtree(inner)
        inner.mkdir()
        with pytest.raises(StoreError, match="its files were removed"):
            held.check()
        with locked(inner, 1, 30) as other:
            other.check()
            with pytest.raises(StoreError):
                held.check()


def test_a_base_path_that_vanishes_while_one_waits(inner: Path, clock: Clock) -> None:
    """The message says so, rather than that somebody else is busy."""
    with locked(inner, 1, 30):
        clock.meanwhile = lambda: inner.exists() and inner.rename(inner.with_name("elsewhere"))
        with (
            pytest.raises(StoreError, match=r"No such file or directory. Somebody removed or moved"),
            locked(inner, 5, 30),
        ):
            pass


def test_names_that_cannot_be_linked(inner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links makes the owner's file by an exclusive create."""

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    no_flock(monkeypatch)
    with locked(inner, 1, 30) as held:
        held.check()
        with pytest.raises(StoreBusyError), locked(inner, 0.1, 30):
            pass
    assert sorted(os.listdir(inner)) == ["lock"]


def test_a_full_disk_is_left_as_it_was(inner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half-written file of whoever could not get the lock stays behind."""
    write = Path.write_text

    def full(path: Path, text: str, **more: Any) -> int:
        write(path, "", **more)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match="Free space on its file system"), locked(inner, 1.0, 30.0):
        pass
    assert [one.name for one in inner.iterdir()] == ["lock"]
