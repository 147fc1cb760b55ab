"""The version store: what is visible when, in which order the disk is touched, and what every failure says."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DigestMismatchError, NotAPayloadError, StoreBusyError, StoreError
from serving.payload import digest
from serving.store import FileSystem, VersionStore, version_number
from tests.serving.store.payloads import assert_only_whole_versions, numeric_entries, publish, saved_model

PUBLISHER = Path(__file__).with_name("publisher.py")


# --- publishing -------------------------------------------------------------------------------------------------------


def test_the_first_publish_makes_version_1_with_exactly_the_payloads_files(base: Path, model: Path) -> None:
    """The version holds the payload and nothing else; the manifest stands beside it."""
    published = publish(VersionStore(base), model)
    assert (published.version, published.path, published.outcome) == (1, base / "1", "pushed")
    assert published.reason == f"{base} holds no version"
    assert sorted(str(path.relative_to(base / "1")) for path in (base / "1").rglob("*")) == [
        "fingerprint.pb",
        "saved_model.pb",
        "variables",
        "variables/variables.data",
    ]
    assert digest(base / "1") == digest(model)
    assert sorted(os.listdir(base)) == [".satisfice", "1"]
    assert sorted(os.listdir(base / ".satisfice")) == ["lock", "manifests", "state.json"]
    assert (base / ".satisfice" / "lock").read_bytes() == b""
    assert json.loads((base / ".satisfice" / "state.json").read_text()) == {"largest_version": 1}


def test_the_manifest_says_what_the_version_is_and_where_it_comes_from(base: Path, model: Path) -> None:
    """Digest, files with their sums, provenance, and the time in UTC."""
    store = VersionStore(base)
    published = publish(store, model)
    manifest = store.manifest(1)
    assert manifest.digest == digest(model)
    assert [file.path for file in manifest.files] == ["fingerprint.pb", "saved_model.pb", "variables/variables.data"]
    assert (manifest.kind, manifest.provenance) == ("saved_model", {"pipeline": "taxi"})
    assert manifest.published_at == published.published_at
    assert manifest.published_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - manifest.published_at) < timedelta(minutes=1)


def test_the_same_bytes_again_are_no_new_version(base: Path, model: Path, tmp_path: Path) -> None:
    """Also when another training wrote them, with another fingerprint.pb."""
    store = VersionStore(base)
    first = publish(store, model)
    twin = Path(shutil.copytree(model, tmp_path / "twin"))
    (twin / "fingerprint.pb").write_text("of another run")
    again = publish(store, twin)
    assert (again.version, again.path, again.outcome) == (1, base / "1", "already_served")
    assert again.reason == "version 1 holds these bytes"
    assert again.published_at == first.published_at
    assert store.versions() == (1,)


def test_bytes_of_an_older_version_get_a_new_number(base: Path, model: Path, other: Path) -> None:
    """Idempotence is against the newest version only: an older one is not what a server loads."""
    store = VersionStore(base)
    assert [publish(store, payload).version for payload in (model, other, model)] == [1, 2, 3]
    assert store.newest() is not None
    assert store.newest().digest == digest(model)


def test_a_damaged_newest_version_is_published_again(base: Path, model: Path) -> None:
    """Bytes that no longer are what was pushed are not "already served"; the old directory is left alone."""
    store = VersionStore(base)
    publish(store, model)
    (base / "1" / "saved_model.pb").write_text("GRAPH")
    assert store.versions() == (1,)  # same size: only verify sees it
    again = publish(store, model)
    assert (again.version, again.outcome) == (2, "pushed")
    assert "version 1 is damaged" in again.reason
    assert "saved_model.pb holds other bytes" in again.reason
    assert (base / "1" / "saved_model.pb").read_text() == "GRAPH"


def test_a_tflite_file_is_published_as_model_tflite(base: Path, tmp_path: Path) -> None:
    """Whatever the exporter called it; `Version.payload` says what to load."""
    (tmp_path / "int8.tflite").write_bytes(b"flat")
    store = VersionStore(base)
    publish(store, tmp_path / "int8.tflite")
    newest = store.newest()
    assert newest is not None
    assert newest.payload == base / "1" / "model.tflite"
    assert newest.payload.read_bytes() == b"flat"
    assert digest(newest.payload) == newest.digest
    store.verify(1)
    assert publish(store, tmp_path / "int8.tflite").outcome == "already_served"


def test_links_inside_the_payload_become_files(base: Path, model: Path) -> None:
    """A version depends on nothing outside itself."""
    (model / "link").symlink_to("saved_model.pb")
    publish(VersionStore(base), model)
    assert (base / "1" / "link").read_text() == "graph"
    assert not (base / "1" / "link").is_symlink()


def test_other_bytes_than_the_measured_ones_are_refused(base: Path, model: Path) -> None:
    """Nothing at all is made for a payload with another digest."""
    with pytest.raises(DigestMismatchError, match="its bytes are not the bytes that were measured") as caught:
        VersionStore(base).publish(model, "0" * 64, {})
    assert caught.value.thing == str(model)
    assert "0" * 64 in caught.value.expected
    assert digest(model) in caught.value.got
    assert not base.exists()


def test_what_is_no_payload_is_refused(base: Path, tmp_path: Path) -> None:
    """A directory without saved_model.pb never becomes a version."""
    with pytest.raises(NotAPayloadError, match="is a directory without a SavedModel"):
        VersionStore(base).publish(tmp_path, "0" * 64, {})
    assert not base.exists()


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_names_are_read_as_tf_serving_reads_them() -> None:
    """absl::SimpleAtoi<int64>: blanks, a sign and leading zeros parse; all else is no version."""
    for name, number in {
        "7": 7,
        "007": 7,
        "+7": 7,
        "-7": -7,
        " 7\t": 7,
        str(2**63 - 1): 2**63 - 1,
        str(2**63): None,
        str(-(2**63)): -(2**63),
        "7.tmp": None,
        ".staging-1": None,
        "_7": None,
        "1_000": None,
        "\N{ARABIC-INDIC DIGIT SEVEN}": None,
        "": None,
        "+": None,
    }.items():
        assert version_number(name) == number, name


@pytest.mark.parametrize("name", ["0041", "41", "+41", "file"])
def test_numbers_in_use_by_others_are_passed_over(base: Path, model: Path, name: str) -> None:
    """Empty directories, plain files and odd spellings all are versions to TF Serving."""
    base.mkdir(parents=True)
    if name == "file":
        (base / "41").touch()
    else:
        (base / name).mkdir()
    store = VersionStore(base)
    assert store.versions() == ()
    assert publish(store, model).version == 42
    assert store.versions() == (42,)


def test_a_number_is_never_used_twice(base: Path, model: Path, other: Path) -> None:
    """The largest ever used is remembered when the directories vanish, by the state or by the manifests."""
    store = VersionStore(base)
    publish(store, model)
    publish(store, other)
    for name in ("1", "2"):
        shutil.rmtree(base / name)
    assert publish(store, model).version == 3
    shutil.rmtree(base / "3")
    (base / ".satisfice" / "state.json").unlink()
    assert publish(store, model).version == 4
    shutil.rmtree(base / "4")
    shutil.rmtree(base / ".satisfice" / "manifests")
    assert publish(store, model).version == 5


def test_versions_of_others_count_when_they_hold_a_payload(base: Path, model: Path) -> None:
    """A version that stock TFX pushed is listed, without a digest: nothing vouches for its bytes."""
    saved_model(base / "1700000003")
    store = VersionStore(base)
    newest = store.newest()
    assert newest is not None
    assert (newest.number, newest.digest, newest.payload) == (1700000003, "", base / "1700000003")
    with pytest.raises(StoreError, match="version 1700000003 has no manifest"):
        store.verify(1700000003)
    published = publish(store, model)
    assert published.version == 1700000004
    assert published.reason == f"the newest version in {base}, 1700000003, was not published by this store"


def test_an_entry_that_hides_the_newest_version_makes_a_push_necessary(base: Path, model: Path) -> None:
    """TF Serving takes a broken directory with a larger number, or a second spelling, for the latest version."""
    store = VersionStore(base)
    publish(store, model)
    for hiding, expected in (("9", 10), ("0010", 11)):
        (base / hiding).mkdir()
        again = publish(store, model)
        assert (again.version, again.outcome) == (expected, "pushed")
        assert f"the entry {hiding!r} in {base} is what TF Serving takes for the latest version" == again.reason


def test_the_last_number_there_is(base: Path, model: Path) -> None:
    """After 2^63 - 1 there is none, and the store says so rather than publish what TF Serving would skip."""
    (base / str(2**63 - 1)).mkdir(parents=True)
    with pytest.raises(StoreError, match="no larger version number is left; got an entry numbered 9223372036854775807"):
        publish(VersionStore(base), model)
    assert numeric_entries(base) == [str(2**63 - 1)]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_makes_nothing(base: Path) -> None:
    """Before the first publish there is nothing, and asking does not change that."""
    store = VersionStore(base)
    assert (store.versions(), store.newest(), store.state()) == ((), None, "")
    assert not base.exists()


def test_state_changes_exactly_when_what_is_newest_changes(base: Path, model: Path, other: Path) -> None:
    """It is version and digest, and tells when a broken entry hides them."""
    store = VersionStore(base)
    publish(store, model)
    first = store.state()
    assert first == f"1:{digest(model)}"
    publish(store, model)
    assert store.state() == first == VersionStore(base).state()
    publish(store, other)
    assert store.state() == f"2:{digest(other)}"
    shutil.rmtree(base / "2")
    assert store.state() == first
    (base / "5").mkdir()
    assert store.state() == f"{first} behind '5'"
    shutil.rmtree(base / "1")
    assert store.state() == "behind '5'"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda v: (v / "variables" / "variables.data").write_bytes(b"w" * 9), "variables.data: holds other bytes"),
        (lambda v: (v / "saved_model.pb").unlink(), "saved_model.pb: is missing"),
        (lambda v: (v / "assets.extra").write_bytes(b""), "assets.extra: does not belong there"),
        (shutil.rmtree, "fingerprint.pb: is missing"),
        (lambda v: (v / "link").symlink_to("/etc/passwd"), "link: is in version 1 and is a link that leaves"),
    ],
)
def test_verify_names_the_file(base: Path, model: Path, damage: Callable[[Path], object], words: str) -> None:
    """Missing, changed and added files are told apart."""
    store = VersionStore(base)
    publish(store, model)
    store.verify(1)
    damage(base / "1")
    with pytest.raises(DigestMismatchError) as caught:
        store.verify(1)
    assert words in str(caught.value)
    assert str(base / "1") in str(caught.value)


def test_a_version_with_missing_or_cut_files_is_not_whole(base: Path, model: Path, other: Path) -> None:
    """It is not listed, and the version before it is the newest whole one."""
    store = VersionStore(base)
    publish(store, model)
    publish(store, other)
    (base / "2" / "saved_model.pb").write_text("cut")
    assert store.versions() == (1,)
    (base / "2" / "saved_model.pb").unlink()
    assert store.versions() == (1,)
    assert store.state() == f"1:{digest(model)} behind '2'"


def test_a_damaged_manifest_vouches_for_nothing(base: Path, model: Path) -> None:
    """The version still lists, without a digest; asking for the manifest says what is wrong with it."""
    store = VersionStore(base)
    publish(store, model)
    path = base / ".satisfice" / "manifests" / "1.json"
    good = path.read_text()
    path.write_text(good.replace("saved_model.pb", "saved_model.pc"))
    with pytest.raises(StoreError, match="contradicts itself: it was changed"):
        store.manifest(1)
    path.write_text(good[:40])
    with pytest.raises(StoreError, match=r"the manifest of version 1 cannot be read: Invalid JSON"):
        store.verify(1)
    assert store.state() == "1:"
    assert publish(store, model).version == 2


def test_a_damaged_state_file_is_named_with_the_remedy(base: Path, model: Path, other: Path) -> None:
    """The store does not guess a number when its memory is unreadable."""
    store = VersionStore(base)
    publish(store, model)
    (base / ".satisfice" / "state.json").write_text("{}")
    with pytest.raises(StoreError, match=r"state\.json: cannot be read: Field required.*Remove it: the number"):
        publish(store, other)
    assert numeric_entries(base) == ["1"]
    (base / ".satisfice" / "state.json").unlink()
    (base / ".satisfice" / "state.json").mkdir()
    with pytest.raises(StoreError, match=r"state\.json: cannot be read: Is a directory"):
        publish(store, other)
    (base / ".satisfice" / "state.json").rmdir()
    assert publish(store, other).version == 2


def test_a_base_path_that_is_a_file(tmp_path: Path, model: Path) -> None:
    """Both reading and publishing say so."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: cannot be read: Not a directory; expected a directory of versions"):
        VersionStore(tmp_path / "file").versions()
    with pytest.raises(StoreError, match="could not make the base path ready: File exists"):
        publish(VersionStore(tmp_path / "file"), model)


# --- the order of the calls -------------------------------------------------------------------------------------------


class Tracing(FileSystem):
    """Notes every call that changes the disk, with paths relative to the base path."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.calls: list[tuple[str, str]] = []

    def note(self, call: str, path: Path) -> None:
        name = re.sub(r"\.[0-9a-f]{32}\.tmp$", ".tmp", os.path.relpath(path, self.base))
        self.calls.append((call, "/".join("STAGING" if p.startswith(".staging-") else p for p in name.split("/"))))

    def make_directory(self, path: Path) -> None:
        self.note("mkdir", path)
        super().make_directory(path)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        self.note("write", path)
        super().write(path, chunks)

    def sync(self, descriptor: int, path: Path) -> None:
        self.note("fsync", path)
        super().sync(descriptor, path)

    def rename(self, source: Path, target: Path) -> None:
        self.note("rename", source)
        self.note("to", target)
        super().rename(source, target)

    def claim(self, source: Path, target: Path) -> None:
        self.note("claim", source)
        self.note("to", target)
        super().claim(source, target)

    def remove(self, path: Path) -> None:
        self.note("remove", path)
        super().remove(path)


def test_the_order_of_the_calls_is_the_contract(base: Path, model: Path, other: Path) -> None:
    """Copy, fsync files, fsync directories, number, manifest, ONE rename, fsync of the parent, and nothing after."""
    publish(VersionStore(base), model)
    tracing = Tracing(base)
    publish(VersionStore(base, file_system=tracing), other)
    assert tracing.calls == [
        ("mkdir", "STAGING"),
        ("write", "STAGING/fingerprint.pb"),
        ("fsync", "STAGING/fingerprint.pb"),
        ("write", "STAGING/saved_model.pb"),
        ("fsync", "STAGING/saved_model.pb"),
        ("mkdir", "STAGING/variables"),
        ("fsync", "STAGING"),
        ("write", "STAGING/variables/variables.data"),
        ("fsync", "STAGING/variables/variables.data"),
        ("fsync", "STAGING/variables"),
        ("fsync", "STAGING"),
        ("write", ".satisfice/state.json.tmp"),
        ("fsync", ".satisfice/state.json.tmp"),
        ("rename", ".satisfice/state.json.tmp"),
        ("to", ".satisfice/state.json"),
        ("fsync", ".satisfice"),
        ("write", ".satisfice/manifests/2.json.tmp"),
        ("fsync", ".satisfice/manifests/2.json.tmp"),
        ("claim", ".satisfice/manifests/2.json.tmp"),
        ("to", ".satisfice/manifests/2.json"),
        ("fsync", ".satisfice/manifests"),
        ("rename", "STAGING"),
        ("to", "2"),
        ("fsync", "."),
    ]


def test_the_first_publish_makes_the_directories_durable_too(base: Path, model: Path) -> None:
    """Each directory that is made is synced into its parent before anything is put in it."""
    tracing = Tracing(base)
    publish(VersionStore(base, file_system=tracing), model)
    assert tracing.calls[:8] == [
        ("mkdir", ".."),
        ("fsync", "../.."),
        ("mkdir", "."),
        ("fsync", ".."),
        ("mkdir", ".satisfice"),
        ("fsync", "."),
        ("mkdir", ".satisfice/manifests"),
        ("fsync", ".satisfice"),
    ]


def test_already_served_changes_nothing_but_is_made_durable(base: Path, model: Path) -> None:
    """The publisher of that version may have died between its rename and its last fsync."""
    publish(VersionStore(base), model)
    tracing = Tracing(base)
    publish(VersionStore(base, file_system=tracing), model)
    assert tracing.calls == [("fsync", ".")]


def test_fsync_reaches_the_operating_system(base: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`FileSystem.sync` is os.fsync on a descriptor of the very file or directory."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    publish(VersionStore(base), model)
    assert any(path.endswith("variables/variables.data") for path in synced)
    assert synced[-1] == str(base)


# --- failures ---------------------------------------------------------------------------------------------------------


class Failing(Tracing):
    """Raises `error` at the call of the given number; `dead` raises at all later ones too, as a killed process
    would make none.
    """

    def __init__(self, base: Path, at: int, error: BaseException, *, dead: bool = False) -> None:
        super().__init__(base)
        self.at, self.error, self.dead = at, error, dead

    def note(self, call: str, path: Path) -> None:
        super().note(call, path)
        number = len(self.calls)
        if call != "to" and (number == self.at or (self.dead and number > self.at)):
            raise self.error


class Killed(BaseException):
    """Stands for the end of the process."""


CALLS = 24  # of one publish, as listed above
TARGETS = (15, 20, 23)  # of these, the lines that only say where a rename goes


@pytest.mark.parametrize("at", [at for at in range(1, CALLS + 1) if at not in TARGETS])
def test_a_publisher_that_dies_at_any_call_leaves_whole_versions_only(
    base: Path, model: Path, other: Path, at: int
) -> None:
    """Nothing half-written is visible, earlier versions are untouched, and the next publish tidies up and succeeds."""
    publish(VersionStore(base), model)
    dying = Failing(base, at, Killed(), dead=True)
    with pytest.raises(Killed):
        publish(VersionStore(base, file_system=dying), other)
    assert_only_whole_versions(base)
    visible = VersionStore(base).versions()
    assert visible == ((1, 2) if at == CALLS else (1,))
    after = publish(VersionStore(base), other)
    assert after.outcome == ("already_served" if at == CALLS else "pushed")
    assert not list(base.glob(".staging-*"))
    assert_only_whole_versions(base)


DISK_ERRORS = {
    errno.ENOSPC: ("No space left on device", "Free space on its file system"),
    errno.EACCES: ("Permission denied", "Give this user write permission to the base path"),
    errno.EROFS: ("Read-only file system", "Mount it writable, or set another base_path under push"),
    errno.EIO: ("Input/output error", "Mend that"),
}


@pytest.mark.parametrize("code", DISK_ERRORS)
@pytest.mark.parametrize("at", [1, 2, 8, 10, 12, 17, 22])
def test_a_disk_that_refuses_is_explained_and_nothing_changes(
    base: Path, model: Path, other: Path, at: int, code: int
) -> None:
    """The message names the path, what was tried, why not, and what to do; no trace is left behind."""
    publish(VersionStore(base), model)
    before = sorted(str(path) for path in base.rglob("*"))
    failing = Failing(base, at, OSError(code, os.strerror(code)))
    with pytest.raises(StoreError) as caught:
        publish(VersionStore(base, file_system=failing), other)
    words, remedy = DISK_ERRORS[code]
    message = str(caught.value)
    assert str(base) in message
    assert "could not " in message
    assert words in message
    assert remedy in message
    assert "Nothing was published; earlier versions are untouched." in message
    left = sorted(str(path) for path in base.rglob("*") if path.suffix != ".tmp")
    assert left == before
    assert VersionStore(base).state() == f"1:{digest(model)}"
    assert publish(VersionStore(base), other).outcome == "pushed"


def test_disk_full_names_the_file_and_its_size(base: Path, model: Path) -> None:
    """So that one can see how much is missing."""
    failing = Failing(base, 10, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StoreError, match=r"could not copy fingerprint\.pb \(11 bytes\) to .*/\.staging-"):
        publish(VersionStore(base, file_system=failing), model)


def test_a_full_disk_in_earnest(tmp_path: Path, model: Path) -> None:
    """/dev/full refuses every byte, as a full disk does."""

    class Full(FileSystem):
        def write(self, path: Path, chunks: Iterable[bytes]) -> None:
            path.symlink_to("/dev/full")
            super().write(path, chunks)

    with pytest.raises(StoreError, match=r"No space left on device\. Free space on its file system"):
        publish(VersionStore(tmp_path / "base", file_system=Full()), model)
    assert numeric_entries(tmp_path / "base") == []


def test_the_last_fsync_failing_says_that_the_version_is_visible(base: Path, model: Path, other: Path) -> None:
    """There it would be wrong to say that nothing was published; pushing again finds it."""
    publish(VersionStore(base), model)
    failing = Failing(base, CALLS, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(
        StoreError, match=r"after version 2 became visible: Input/output error\. Push again: it is found"
    ):
        publish(VersionStore(base, file_system=failing), other)
    assert publish(VersionStore(base), other).outcome == "already_served"


def test_a_payload_that_changes_while_it_is_copied_is_refused(base: Path, model: Path) -> None:
    """What is published is what was measured, not what the folder held a moment later."""

    class Meddling(FileSystem):
        def write(self, path: Path, chunks: Iterable[bytes]) -> None:
            (model / "variables" / "variables.data").write_bytes(b"v" * 10)
            super().write(path, chunks)

    with pytest.raises(DigestMismatchError, match=r"variables\.data: its copy is not what was read before: it holds"):
        publish(VersionStore(base, file_system=Meddling()), model)
    assert numeric_entries(base) == []
    assert not list(base.glob(".staging-*"))


def test_a_stranger_who_takes_the_number_meanwhile_is_not_overwritten(base: Path, model: Path) -> None:
    """The rename fails on a directory that is not empty, and no manifest is left that would contradict it."""

    class Racing(FileSystem):
        def rename(self, source: Path, target: Path) -> None:
            if target.name == "1":
                saved_model(target, "of a stranger")
            super().rename(source, target)

    with pytest.raises(StoreError, match="to 1: Directory not empty"):
        publish(VersionStore(base, file_system=Racing()), model)
    newest = VersionStore(base).newest()
    assert newest is not None
    assert (newest.number, newest.digest) == (1, "")
    assert publish(VersionStore(base), model).version == 2


def test_an_orphan_manifest_is_harmless(base: Path, model: Path, other: Path) -> None:
    """A publisher that died between manifest and rename has used up a number, no more."""
    publish(VersionStore(base), model)
    with pytest.raises(Killed):
        publish(VersionStore(base, file_system=Failing(base, CALLS - 2, Killed(), dead=True)), other)
    assert (base / ".satisfice" / "manifests" / "2.json").exists()
    store = VersionStore(base)
    assert (store.versions(), store.state()) == ((1,), f"1:{digest(model)}")
    with pytest.raises(DigestMismatchError, match="is missing"):
        store.verify(2)
    assert publish(store, other).version == 3


# --- several at once --------------------------------------------------------------------------------------------------


def test_a_busy_store_says_who_holds_it(base: Path, model: Path) -> None:
    """The wait is bounded: the other one still holds it then. The message names process, host and time."""

    class Waiting(FileSystem):
        def make_directory(self, path: Path) -> None:
            super().make_directory(path)
            if path.name.startswith(".staging-"):
                holding.set()
                release.wait(120)

    holding, release = threading.Event(), threading.Event()
    first = threading.Thread(target=publish, args=(VersionStore(base, file_system=Waiting()), model))
    first.start()
    assert holding.wait(120)
    try:
        with pytest.raises(StoreBusyError, match=r"has held the lock for more than 0\.1 s") as caught:
            publish(VersionStore(base, lock_timeout_s=0.1), model)
        assert first.is_alive()
    finally:
        release.set()
        first.join()
    assert f'"pid": {os.getpid()}' in str(caught.value)
    assert '"since": "20' in str(caught.value)
    assert VersionStore(base).versions() == (1,)


def test_a_lock_without_a_name_in_it(base: Path, model: Path) -> None:
    """A holder that has not written who it is yet does not break the message."""
    publish(VersionStore(base), model)
    with (base / ".satisfice" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreBusyError, match="0 s: it does not say who it is"):
            publish(VersionStore(base, lock_timeout_s=0), model)


def start_publisher(base: Path, count: int, *payloads: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(PUBLISHER), str(base), str(count), *map(str, payloads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_kill_9_at_any_moment(base: Path, model: Path, tmp_path: Path) -> None:
    """Twenty publishers killed at seeded moments: only whole versions are ever visible, and the next publish works."""
    store = VersionStore(base)
    large = saved_model(tmp_path / "large", "large", blob=20_000_000)
    started = time.monotonic()
    publish(store, large)
    span = min(
        time.monotonic() - started, 1.0
    )  # so that a publisher has a thousand publishes to do for longer than that
    moments = random.Random(6)
    killed = 0
    for _ in range(20):
        process = start_publisher(base, 1000, model, large)
        time.sleep(moments.uniform(0, 2 * span))
        process.kill()
        process.communicate()
        killed += process.returncode == -9
        assert_only_whole_versions(base)
        before = store.versions()[-1]
        alternate = model if store.newest().digest == digest(large) else large  # type: ignore[union-attr]
        assert publish(store, alternate).version > before
        assert not list(base.glob(".staging-*"))
        for version in store.versions()[:-1]:
            shutil.rmtree(base / str(version))
    assert killed == 20


def test_four_publishers_and_a_reader(base: Path, tmp_path: Path) -> None:
    """100 publishes from 4 processes give 100 numbers, and whoever looks at any time sees whole versions only."""
    base.mkdir(parents=True)
    processes = [
        start_publisher(base, 25, *(saved_model(tmp_path / f"{who}-{which}", f"{who}-{which}") for which in "ab"))
        for who in range(4)
    ]
    looks, seen = 0, set()
    while any(process.poll() is None for process in processes):
        for name in numeric_entries(base):
            assert len((base / name / "saved_model.pb").read_text()) == 3
            assert (base / name / "variables" / "variables.data").stat().st_size == 10
            assert (base / ".satisfice" / "manifests" / f"{name}.json").stat().st_size > 0
            seen.add(name)
        looks += 1
    numbers = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(numbers) == list(range(1, 101))
    assert VersionStore(base).versions() == tuple(range(1, 101))
    assert_only_whole_versions(base)
    assert looks > 10
    assert len(seen) > 10


# --- properties -------------------------------------------------------------------------------------------------------


class Unsynced(FileSystem):
    """Leaves out the fsync, which only slows a property down."""

    def sync(self, descriptor: int, path: Path) -> None:
        """Do nothing."""


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2)),
        st.tuples(st.just("fail"), st.integers(1, CALLS)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("mkdir"), st.sampled_from(["007", "12", "+13", "x", "-4"])),
        st.tuples(st.just("touch"), st.sampled_from(["009", "15", " 16", "y.tmp"])),
    ),
    min_size=2,
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(ACTS)
def test_versions_rise_whatever_happens_between_publishes(acts: list[tuple[str, int | str]]) -> None:
    """New numbers exceed all that were ever visible; a publish gives a whole version or changes nothing visible."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        base.mkdir()
        models = [saved_model(Path(folder, f"m{number}"), f"graph {number}") for number in range(3)]
        store = VersionStore(base, file_system=Unsynced())
        used = 0
        for act, what in acts:
            used = max([used, *(version_number(name) or 0 for name in os.listdir(base))])
            before = numeric_entries(base)
            match act:
                case "publish":
                    published = publish(store, models[int(what)])
                    if published.outcome == "pushed":
                        assert published.version > used
                        assert sorted([*before, str(published.version)]) == numeric_entries(base)
                    else:
                        assert before == numeric_entries(base)
                    assert store.newest().digest == digest(models[int(what)])  # type: ignore[union-attr]
                    assert store.why_not_served(digest(models[int(what)])) == ""
                    store.verify(published.version)
                case "fail":
                    with suppress(StoreError):  # it fails at that call, or needs fewer
                        publish(
                            VersionStore(base, file_system=Failing(base, int(what), OSError(28, "full"))), models[0]
                        )
                    new = set(numeric_entries(base)) - set(before)
                    assert len(new) <= 1
                    assert all(int(name) > used for name in new)
                    for version in store.versions():
                        store.verify(version)
                case "delete":
                    versions = store.versions()
                    for version in versions[int(what) : int(what) + 2]:
                        shutil.rmtree(base / str(version))
                case "forget":
                    (base / ".satisfice" / "state.json").unlink(missing_ok=True)
                case "mkdir":
                    (base / str(what)).mkdir(exist_ok=True)
                case "touch" if not (base / str(what)).exists():
                    (base / str(what)).touch()


def test_imports_neither_tensorflow_nor_tfx() -> None:
    """A command that only reads the watch directory answers at once."""
    code = "import sys, serving.store; print([m for m in ('tensorflow', 'tfx', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
