"""The steps of which every change to a version store is made, in the order that keeps it whole.

    BASE/3/                          a version: exactly the payload's files, never written to again
    BASE/.staging-<uuid>/            a publish under way; TF Serving skips names that are no integers
    BASE/.trash-3-<uuid>/            a version that is being removed
    BASE/.satisfice/lock, owner      the one publisher at work (`serving.store.lock`)
    BASE/.satisfice/state.json       the largest version number ever used, which outlives the directories
    BASE/.satisfice/marks.json       pins, labels and refused digests
    BASE/.satisfice/manifests/3.json what version 3 consists of and where it comes from
    BASE/.satisfice/removed/2.json   the same of a version that retention removed
    BASE/.satisfice/aside/           what a repair moved out of the way

The order in which `StoreWriter` touches the disk is the contract: the staged files and their directories are synced and
verified, the number is noted, the manifest is synced and claims the number, and only then one `rename` makes the version
visible; the base path is synced last. A process that dies between any two calls leaves whole versions only. What the
calls are worth when the power fails is the file system's to say.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import DigestMismatchError, StoreError
from serving.payload import PayloadFile, digest_of, kind, scan
from serving.store.disk import FileSystem, explained, read_chunks
from serving.store.lock import Held, locked
from serving.store.names import LARGEST_INT64, STAGING, TRASH, trashed_version
from serving.store.read import StoreReader, difference
from serving.store.records import Manifest, Marks, Rollback, State

__all__ = ["StoreWriter"]


class StoreWriter(StoreReader):
    """What `VersionStore` is made of. Every method but `_locked` and `_make_directories` needs the lock."""

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        *,
        lock_timeout_s: float = 60.0,
        lease_s: float = 30.0,
        file_system: FileSystem | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """A store on `base_path`, which need not exist yet; nothing is touched before the first publish.

        Args:
            base_path: the directory that TF Serving watches.
            lock_timeout_s: how long to wait for another publisher, in seconds.
            lease_s: how long a publisher on another machine may give no sign of life before it counts as dead.
            file_system: the calls that change the disk.
            clock: the time, UTC; it is written down and decides nothing.
        """
        super().__init__(base_path)
        self._lock_timeout_s = lock_timeout_s
        self._lease_s = lease_s
        self._fs = file_system or FileSystem()
        self._clock = clock or _now

    @contextmanager
    def _locked(self, *, sweep: bool = True) -> Iterator[Held]:
        """Hold the lock, and first put away what a publisher left that died."""
        with self._explained("make the base path ready"):
            self._make_directories(self.manifests)
        with locked(self.inner, self._lock_timeout_s, self._lease_s) as held:
            if sweep:
                self._sweep(held)
            yield held

    def _explained(self, act: str, remedy: str = "") -> AbstractContextManager[None]:
        return explained(self.base_path, act, remedy)

    # --- a new version ------------------------------------------------------------------------------------------------

    def _publish_new(
        self,
        held: Held,
        source: Path,
        contents: tuple[PayloadFile, ...],
        provenance: Mapping[str, str],
        *,
        above: int,
        rollback: Rollback | None = None,
        marks: Marks | None = None,
    ) -> Manifest:
        """Copy a payload and make it visible.

        Args:
            held: the lock.
            source: a SavedModel directory or a `.tflite` file.
            contents: its files, as they were measured.
            provenance: for the manifest.
            above: the new number is larger than this one too.
            rollback: for the manifest.
            marks: noted before the version becomes visible; None where they stay as they are.
        """
        staging = self.base_path / f"{STAGING}{uuid.uuid4().hex}"
        try:
            self._stage(source, contents, staging)
            manifest = Manifest(
                version=self._next_number(above),
                digest=digest_of(contents),
                kind=kind(source),
                files=contents,
                provenance=dict(provenance),
                rollback=rollback,
                published_at=self._clock(),
            )
            return self._commit(held, staging, manifest, marks)
        finally:
            with suppress(OSError):  # what is left is swept by the next publish
                if staging.exists():
                    self._fs.remove(staging)

    def _stage(self, source: Path, contents: tuple[PayloadFile, ...], staging: Path) -> None:
        """Copy the payload to `staging`, sync it, and read the copy back."""
        single = source.is_file()
        folders = {staging}
        with self._explained(f"make {staging}"):
            self._fs.make_directory(staging)
        for file in contents:
            target = staging / file.path
            with self._explained(f"copy {file.path} ({file.size} bytes) to {staging}"):
                folders |= self._make_directories(target.parent)
                self._fs.write(target, read_chunks(source if single else source / file.path))
        with self._explained(f"sync {staging}"):
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                self._fs.sync_directory(folder)
        differs = difference(contents, scan(staging))
        if differs:
            raise DigestMismatchError(
                str(source / differs[0]),
                f"its copy is not what was read before: it {differs[1]}",
                remedy="Something changed the payload meanwhile, or the disk is faulty. Nothing was published.",
            )

    def _commit(self, held: Held, staging: Path, manifest: Manifest, marks: Marks | None) -> Manifest:
        """Note the number, claim it by the manifest, and make the version visible."""
        if marks is not None:
            self._note_marks(marks)
        manifest = self._claim_number(manifest)
        number = manifest.version
        try:
            held.check()
            with self._explained(f"rename {staging} to {number}"):
                self._fs.rename(staging, self.base_path / str(number))
        except StoreError:
            with suppress(OSError):
                self._fs.remove(self.manifest_path(number))
            raise
        with self._explained(
            f"sync the base path after version {number} became visible", "Push again: it is found and synced."
        ):
            self._fs.sync_directory(self.base_path)
        return manifest

    def _claim_number(self, manifest: Manifest) -> Manifest:
        """Write the manifest under its number, or under a larger one where a publisher that no lock kept out has it."""
        while True:
            number = manifest.version
            path = self.manifest_path(number)
            temporary = _temporary(path)
            with self._explained(f"note version {number}"):
                self._replace(self.inner / "state.json", State(largest_version=number).model_dump_json())
                self._fs.write(temporary, [manifest.model_dump_json(indent=1).encode()])
                try:
                    self._fs.claim(temporary, path)
                except FileExistsError:
                    manifest = manifest.model_copy(update={"version": self._next_number(number)})
                    continue
                self._fs.sync_directory(path.parent)
            return manifest

    def _next_number(self, above: int) -> int:
        """The largest number that is, or ever was, in use here, plus one; more than `above`, and at least 1."""
        noted = self.largest_noted()
        used = [number for number, _ in self.entries()] + self.numbers_with_manifest(self.manifests)
        used += self.numbers_with_manifest(self.removed_manifests) if noted is None else [noted]
        number = max(0, above, *used) + 1
        if number > LARGEST_INT64:
            raise StoreError(
                str(self.base_path),
                "no larger version number is left",
                got=f"an entry numbered {number - 1}",
                remedy="Remove that entry and .satisfice/state.json.",
            )
        return number

    # --- removing and putting away ------------------------------------------------------------------------------------

    def _discard(self, version: int) -> None:
        """Remove a version: out of sight by one rename, then its manifest, then its bytes."""
        trash = self.base_path / f"{TRASH}{version}-{uuid.uuid4().hex}"
        act = f"remove version {version}"
        remedy = "The next publish tries again."
        with self._explained(act, remedy):
            self._fs.rename(self.base_path / str(version), trash)
            self._fs.sync_directory(self.base_path)
        self._empty_trash(trash, act, remedy)

    def _empty_trash(self, trash: Path, act: str, remedy: str = "") -> None:
        version = trashed_version(trash.name)
        with self._explained(act, remedy):
            if version is not None and self.manifest_path(version).is_file() and not self.has(version):
                self._make_directories(self.removed_manifests)
                self._fs.rename(self.manifest_path(version), self.removed_manifests / f"{version}.json")
                self._fs.sync_directory(self.removed_manifests)
                self._fs.sync_directory(self.manifests)
            self._fs.remove(trash)

    def _sweep(self, held: Held) -> None:
        """Put away what publishers left that died; none is at work while the lock is held.

        Staging goes out of the way by a rename first: should its publisher live after all, its own rename then fails,
        and never makes a version of what is being emptied.
        """
        act = "remove what a publisher left that died"
        with self._explained(act):
            for name in sorted(os.listdir(self.base_path)):
                if name.startswith(STAGING):
                    held.check()
                    with suppress(FileNotFoundError):
                        self._fs.rename(self.base_path / name, self.base_path / f"{TRASH}staging-{uuid.uuid4().hex}")
            for path in (*self.inner.glob("owner-*"), *self.inner.glob("*.tmp"), *self.manifests.glob("*.tmp")):
                with suppress(FileNotFoundError):
                    self._fs.remove(path)
            names = sorted(os.listdir(self.base_path))
        for name in names:
            if name.startswith(TRASH):
                self._empty_trash(self.base_path / name, act)
        newest = self.newest()
        manifest = self._manifest_or_none(newest.number) if newest and newest.digest else None
        if manifest is not None and manifest.withdrawn is not None:
            self._discard_withdrawn(manifest)

    def _discard_withdrawn(self, manifest: Manifest) -> None:
        """Remove a version that was withdrawn; where a rollback made it, what that refused and lifted is as before."""
        rollback = manifest.rollback
        if rollback is not None:
            marks = self.marks()
            refused = dict(marks.refused)
            if rollback.from_digest in refused and refused[rollback.from_digest].version == rollback.from_version:
                del refused[rollback.from_digest]
            if rollback.lifted is not None:
                refused[manifest.digest] = rollback.lifted
            self._note_marks(marks.model_copy(update={"refused": refused}))
        self._discard(manifest.version)

    # --- small files --------------------------------------------------------------------------------------------------

    def _note_marks(self, marks: Marks) -> None:
        with explained(self.base_path, "note pins, labels and refusals", outcome="Nothing was changed."):
            self._replace(self.inner / "marks.json", marks.model_dump_json(indent=1))

    def _make_directories(self, path: Path) -> set[Path]:
        """Make a directory and what lacks above it, each synced into its parent; those that were made."""
        if path.is_dir():
            return set()
        made = self._make_directories(path.parent)
        self._fs.make_directory(path)
        self._fs.sync_directory(path.parent)
        return made | {path}

    def _replace(self, path: Path, text: str) -> None:
        """Put a small file in the place of another, durable and in one step."""
        temporary = _temporary(path)
        self._fs.write(temporary, [text.encode()])
        self._fs.rename(temporary, path)
        self._fs.sync_directory(path.parent)


def _temporary(path: Path) -> Path:
    """Where a small file is written before it gets its name; nobody else's, even where no lock keeps others out."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")


def _now() -> datetime:
    return datetime.now(UTC)
