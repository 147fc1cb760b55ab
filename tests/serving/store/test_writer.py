"""What the disk does to a publish: full, read-only, forbidden, deleted meanwhile; and the system calls in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import StoreError
from serving.payload import digest
from serving.store import FileSystem, VersionStore, find
from serving.store.read import StoreReader
from tests.serving.store.payloads import assert_only_whole_versions, numeric_entries, publish, saved_model

PUBLISHER = Path(__file__).with_name("publisher.py")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB of its own; skipped where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs a user who may mount a tmpfs: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def error_of(store: VersionStore, payload: Path) -> str:
    """What a publish says when it fails; "" where it succeeds."""
    try:
        publish(store, payload)
    except StoreError as error:
        return str(error)
    return ""


@contextmanager
def unprivileged() -> Iterator[None]:
    """Acts as a user whom permissions concern."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_at_any_point(small_disk: Path, tmp_path: Path) -> None:
    """Whatever room is left, a publish is whole or explained; nothing is lost, and with room it succeeds."""
    base = small_disk / "base"
    store = VersionStore(base)
    publish(store, saved_model(tmp_path / "first", "first"))
    payload = saved_model(tmp_path / "next", "next", blob=40_000)
    filler, refused = small_disk / "filler", 0
    for room_kib in range(0, 120, 4):
        filler.unlink(missing_ok=True)
        with filler.open("wb") as handle:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            handle.write(b"x" * max(0, free - room_kib * 1024))
        said = error_of(store, payload)
        if not said:
            break
        refused += 1
        assert "No space left on device. Free space on its file system, then try again." in said
        assert "Nothing was published; earlier versions are untouched." in said
        assert store.versions() == (1,)
        assert_only_whole_versions(base)
    assert refused > 3
    assert store.versions() == (1, 2)
    assert_only_whole_versions(base)
    filler.unlink()
    assert find(base) == []


def test_a_rollback_on_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """It fails as a publish does, and what serves goes on serving; what was served is not refused by accident."""
    store = VersionStore(small_disk / "base")
    for name in ("first", "second"):
        publish(store, saved_model(tmp_path / name, name, blob=40_000))
    with (small_disk / "filler").open("wb") as handle:
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        handle.write(b"x" * (free - 16 * 1024))
    with pytest.raises(StoreError, match="No space left on device"):
        store.rollback(1, by="ann", reason="drill")
    assert store.newest().number == 2  # type: ignore[union-attr]
    assert store.marks().refused == {}
    (small_disk / "filler").unlink()
    assert store.rollback(1, by="ann", reason="drill").version == 3


# --- read-only, forbidden ---------------------------------------------------------------------------------------------


def test_a_read_only_file_system(small_disk: Path, model: Path, other: Path) -> None:
    """It can be read, and the error of a publish says what to do; mounted writable again, it goes on."""
    store = VersionStore(small_disk / "base")
    publish(store, model)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        with pytest.raises(StoreError, match=r"Read-only file system\. Mount it writable"):
            publish(store, other)
        assert store.state() == f"1:{digest(model)}"
        assert find(small_disk / "base") == []
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert publish(store, other).version == 2


@pytest.mark.parametrize("where", [".", ".satisfice", ".satisfice/manifests"])
def test_a_permission_that_was_lost(open_folder: Path, where: str) -> None:
    """On the base path or on the store's own folders: a clear error, nothing lost, and given back it goes on."""
    with unprivileged():
        first, second = (saved_model(open_folder / name, name) for name in ("first", "second"))
        base = open_folder / "base"
        store = VersionStore(base)
        publish(store, first)
        (base / where).chmod(0o555)
        try:
            with pytest.raises(
                StoreError, match=r"Permission denied\. Give this user write permission to the base path"
            ):
                publish(store, second)
            assert store.state() == f"1:{digest(first)}"
        finally:
            (base / where).chmod(0o755)
        assert publish(store, second).version in (2, 3)  # the number may have been noted before the error
        assert find(base) == []


def test_a_payload_that_cannot_be_read(open_folder: Path) -> None:
    """The file is named, and nothing is made."""
    with unprivileged():
        payload = saved_model(open_folder / "model")
        (payload / "saved_model.pb").chmod(0)
        with pytest.raises(StoreError, match=r"saved_model\.pb: cannot be read: Permission denied"):
            VersionStore(open_folder / "base").publish(payload, "0" * 64, {})
        assert not (open_folder / "base").exists()


# --- deleted under our feet -------------------------------------------------------------------------------------------


class Deleting(FileSystem):
    """Removes a folder when a call of the given number is made."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at, self.calls = folder, at, 0

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            shutil.rmtree(self.folder)

    def make_directory(self, path: Path) -> None:
        self.count()
        super().make_directory(path)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        self.count()
        super().write(path, chunks)

    def rename(self, source: Path, target: Path) -> None:
        self.count()
        super().rename(source, target)

    def claim(self, source: Path, target: Path) -> None:
        self.count()
        super().claim(source, target)


@pytest.mark.parametrize("folder", ["", ".satisfice"])
@pytest.mark.parametrize("at", range(1, 11))
def test_a_folder_that_is_deleted_meanwhile(
    base: Path, model: Path, other: Path, folder: str, at: int, tmp_path: Path
) -> None:
    """The base path or the store's own folder, at any step: no half version, a clear error, and the next one works."""
    publish(VersionStore(base), model)
    deleting = Deleting(base / folder, at)
    said = error_of(VersionStore(base, file_system=deleting), other)
    if said:
        assert re.search(r"Somebody removed or moved|the lock was lost|there is no|is missing", said), said
    else:  # it was over, or there was nothing left to do but the one rename
        assert deleting.calls <= at
    if base.exists():
        for name in numeric_entries(base):
            assert StoreReader(base).whole()
            assert digest(base / name) in (digest(model), digest(other))
    third = saved_model(tmp_path / "third", "third")
    published = VersionStore(base).publish(third, digest(third), {}, above=2)
    assert published.version >= 3
    assert digest(published.path) == digest(third)


def test_numbers_go_on_where_others_remember_them(base: Path, model: Path) -> None:
    """The lineage knows what was pushed when the base path itself is gone."""
    assert VersionStore(base).publish(model, digest(model), {}, above=41).version == 42


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back(base: Path, models: list[Path]) -> None:
    """Numbers do not come from it: the newest version is the one published last."""
    times = iter([datetime(2026, 1, 2, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)])
    store = VersionStore(base, clock=lambda: next(times))
    assert [publish(store, model).version for model in models[:3]] == [1, 2, 3]
    assert store.newest().digest == digest(models[2])  # type: ignore[union-attr]
    assert [store.manifest(number).published_at.year for number in (1, 2, 3)] == [2026, 1999, 2026]


# --- the system calls -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_the_system_calls_of_a_publish(base: Path, model: Path, tmp_path: Path) -> None:
    """As the kernel sees them: each staged file is synced after its last write, then its folders, then the records, then
    ONE rename makes the version, and the base path is synced after it.
    """
    trace = tmp_path / "trace"
    calls = "trace=write,fsync,rename,renameat,renameat2,link,linkat,mkdir,openat"
    command = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", str(trace), sys.executable, str(PUBLISHER)]
    done = subprocess.run(
        [*command, str(base), "1", str(model)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    seen = list(_calls(trace.read_text(), base))
    staged = ["fingerprint.pb", "saved_model.pb", "variables/variables.data"]
    at = {call: index for index, call in enumerate(seen)}
    published = at["rename", "1"]
    for file in staged:
        assert at["write", f"STAGING/{file}"] < at["fsync", f"STAGING/{file}"] < at["fsync", "STAGING"] < published
    assert at["fsync", "STAGING/variables"] < at["fsync", "STAGING"]
    assert at["rename", ".satisfice/state.json"] < at["link", ".satisfice/manifests/1.json"] < published
    assert at["fsync", ".satisfice/manifests"] < published
    assert [call for call in seen if call[1] == "1"] == [("rename", "1")]
    assert seen.index(("fsync", "."), published) > published
    assert not [call for call in seen[published + 1 :] if call[0] == "write" and "owner" not in call[1]]


def _calls(trace: str, base: Path) -> Iterator[tuple[str, str]]:
    """Call and path, relative to the base path, of each successful call below it; of a rename or link, the new name."""
    for line in trace.splitlines():
        found = re.match(r"\d+ +(\w+)\((.*)\) += +(\d+)", line)
        if not found:
            continue
        paths = re.findall(rf"{re.escape(str(base))}[^\"<>]*", found[2])
        if paths:
            name = os.path.relpath(paths[-1], base)
            call = {"renameat": "rename", "renameat2": "rename", "linkat": "link"}.get(found[1], found[1])
            yield call, re.sub(r"^\.staging-[0-9a-f]+", "STAGING", name)
