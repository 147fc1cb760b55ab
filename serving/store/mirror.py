"""Follows a base path in a bucket into a folder of this machine, for a server that can only watch a directory.

The folder is a base path itself, with whole versions only: a version is downloaded beside it, every byte is compared with the
manifest that claimed its number, and one rename makes it visible. A version without a manifest is not followed: nothing tells
when it is whole. What is followed is what a server needs: the newest versions (one to fall back upon), and those that labels
name or are about to name, with the labels. What is no longer needed, or was withdrawn, goes; what cannot be asked, or a base
path that holds nothing, changes nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from schemas.errors import DigestMismatchError, StoreError
from serving.store.cloud import CloudVersionStore
from serving.store.disk import explained
from serving.store.names import INNER, STAGING, TRASH
from serving.store.read import StoreReader
from serving.store.records import Manifest, Marks

__all__ = ["Mirror", "free_folder"]

_LOG = logging.getLogger(__name__)
_NEWEST = 2
_RETRY_S = 60.0
_FOLDERS = 100
_REMEDY = "Mend that, or name another folder with --mirror."


def free_folder(parent: Path, name: str) -> Path:
    """A folder for a mirror, whole again with what an earlier server left; `NAME-2` where another server follows into `NAME`.

    It is this process's until that ends.

    Raises:
        StoreError: the disk refuses, or the folder holds what no mirror has put there, which one would remove.
    """
    for number in range(1, _FOLDERS):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        lock = folder / INNER / "mirror"
        with explained(folder, "make a folder for what is in the bucket", _REMEDY):
            holds = any(entry.is_file() for entry in folder.rglob("*"))
            if holds and not lock.exists():  # in this order: another server may have begun meanwhile
                raise StoreError(
                    str(folder),
                    "is no mirror, and holds something",
                    expected="a folder that is empty, missing, or followed a bucket before",
                    remedy="Name another with --mirror: a mirror removes what its bucket does not hold.",
                )
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            (folder / INNER / "manifests").mkdir(exist_ok=True)
        return folder  # the descriptor stays open, and the lock with it
    raise StoreError(str(parent), f"{_FOLDERS} servers follow buckets into it", remedy="Name another with --mirror.")


class Mirror:
    """One base path in a bucket, and the folder that follows it."""

    def __init__(self, store: CloudVersionStore, folder: Path, labels: Mapping[str, int] | None = None) -> None:
        """A mirror; nothing is asked or made yet.

        Args:
            store: in the bucket.
            folder: from `free_folder`.
            labels: of the configuration; what they name is followed too.
        """
        self.folder = folder
        self._store = store
        self._local = StoreReader(folder)
        self._labels = dict(labels or {})
        self._failed: dict[tuple[int, str], float] = {}
        self._said = ""
        self._stopping = threading.Event()

    def begin(self) -> None:
        """Puts away what is not whole, and follows for the first time.

        Raises:
            StoreError: the bucket cannot be asked, and nothing is left from earlier; or the disk refuses.
        """
        with explained(self.folder, "make the folder ready", _REMEDY):
            for entry in list(self.folder.iterdir()):
                if entry.name.startswith((STAGING, TRASH)):
                    shutil.rmtree(entry, ignore_errors=True)
            for number in [number for number, _ in self._local.entries()]:
                try:
                    self._local.verify(number)
                except StoreError as error:
                    _LOG.warning("%s", error)
                    self._remove(number)
        try:
            self.follow()
        except StoreError as error:
            if not self._local.versions():
                raise
            _LOG.warning("serving what was there before: %s", error)
            self._said = str(error)

    def start(self, every_s: float) -> None:
        """Follows every so many seconds, in a thread of its own; 0 follows no more."""
        if every_s > 0:
            threading.Thread(target=self._watch, args=(every_s,), daemon=True, name="mirror").start()

    def stop(self) -> None:
        """Follows no more."""
        self._stopping.set()

    def follow(self) -> None:
        """Brings the folder up to date.

        Raises:
            StoreError: the bucket cannot be asked, or the disk refuses; what is there stays.
        """
        marks = self._store.marks()
        wanted = {manifest.version: manifest for manifest in self._newest()}
        named = {*self._labels.values(), *marks.labels.values(), *marks.moving.values()} - set(wanted)
        there = {version.number for version in self._store.whole() if version.digest} if named else set()
        for manifest in (self._store.manifest(number) for number in sorted(named & there)):
            if self._brought(manifest):
                wanted[manifest.version] = manifest
        self._note(marks)
        if wanted:
            for number in [number for number, _ in self._local.entries() if number not in wanted]:
                self._remove(number)

    def _newest(self) -> Iterator[Manifest]:
        """The newest versions that are whole here, each brought as it is come to."""
        count = 0
        for version in self._store.whole():
            if count == _NEWEST:
                return
            manifest = self._store.manifest(version.number) if version.digest else None
            if manifest is not None and manifest.withdrawn is None and self._brought(manifest):
                count += 1
                yield manifest

    def _brought(self, manifest: Manifest) -> bool:
        """Whether a version is here, whole; one that was damaged is not asked for again for a minute."""
        number, name = manifest.version, (manifest.version, manifest.digest)
        if self._local.has(number):
            with suppress(StoreError):
                if self._local.manifest(number).digest == manifest.digest:
                    return True
            self._remove(number)  # of a bucket that was emptied and filled again
        if time.monotonic() < self._failed.get(name, 0.0):
            return False
        try:
            self._bring(manifest)
        except DigestMismatchError as error:
            self._failed[name] = time.monotonic() + _RETRY_S
            _LOG.error("version %d is not served: %s", number, error)
            return False
        return True

    def _bring(self, manifest: Manifest) -> None:
        number = manifest.version
        staging = self.folder / f"{STAGING}{uuid.uuid4().hex}"
        try:
            with explained(self.folder, f"copy version {number} from {self._store.base_path}", outcome=""):
                staging.mkdir()
                for file in manifest.files:
                    target = staging / _within(file.path, manifest)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._store.fetch(number, file, target)
                self._write(self._local.manifest_path(number), manifest.model_dump_json(indent=1))
                staging.rename(self.folder / str(number))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        _LOG.info("version %d of %s is here", number, self._store.base_path)

    def _remove(self, number: int) -> None:
        with explained(self.folder, f"remove version {number}", _REMEDY):
            trash = self.folder / f"{TRASH}{number}-{uuid.uuid4().hex}"
            (self.folder / str(number)).rename(trash)
            self._local.manifest_path(number).unlink(missing_ok=True)
            shutil.rmtree(trash)

    def _note(self, marks: Marks) -> None:
        """Once the versions are here: a label names none that is not."""
        path, text = self._local.inner / "marks.json", marks.model_dump_json(indent=1)
        with explained(self.folder, "note the labels", outcome=""):
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        half = path.with_name(f"{path.name}.tmp")
        half.write_text(text, encoding="utf-8")
        half.replace(path)

    def _watch(self, every_s: float) -> None:
        while not self._stopping.wait(every_s):
            try:
                self.follow()
            except StoreError as error:
                if str(error) != self._said:
                    _LOG.warning("what is served stays as it is: %s", error)
                self._said = str(error)
            except Exception:  # noqa: BLE001 - whatever it is, what is served goes on
                _LOG.exception("%s is not followed", self._store.base_path)
            else:
                self._said = ""


def _within(path: str, manifest: Manifest) -> PurePosixPath:
    """The path of a file in its version, which a manifest that somebody has made up may lead out of it."""
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or not found.parts or "\0" in path:
        raise DigestMismatchError(
            repr(path), f"is a file of version {manifest.version} as its manifest says, and is no path within it"
        )
    return found
