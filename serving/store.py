"""The version store: a base path that TF Serving watches, into which payloads are published whole or not at all.

    BASE/3/                          a version: exactly the payload's files, never written to again
    BASE/.staging-<uuid>/            a publish under way; TF Serving skips names that are no integers
    BASE/.satisfice/lock             locked (flock) by the one publisher at work; holds its process id and host
    BASE/.satisfice/state.json       the largest version number ever used, which outlives the directories
    BASE/.satisfice/manifests/3.json what version 3 consists of and where it comes from

The order in which `VersionStore.publish` touches the disk is the contract: the staged files and their directories are
synced and verified, the number is noted, the manifest is synced, and only then one `rename` makes the version visible;
the base path is synced last. A process that dies between any two calls leaves whole versions only. What the calls are
worth when the power fails is the file system's to say.

Reading needs no lock and makes no file. TF Serving's own rules for names (any text that parses as a 64-bit integer,
directory or not, complete or not) are in `version_number`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import DigestMismatchError, NotAPayloadError, StoreBusyError, StoreError
from serving.payload import TFLITE_NAME, Kind, PayloadFile, digest_of, files, kind, scan

__all__ = ["FileSystem", "Manifest", "Published", "Version", "VersionStore", "version_number"]

_INNER = ".satisfice"
_STAGING = ".staging-"
_LARGEST_INT64 = 2**63 - 1
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_CHUNK_BYTES = 1 << 20
_LOCK_POLL_S = 0.02


class Manifest(BaseModel):
    """What one version consists of; stands beside the version, and is durable before the version is visible.

    Attributes:
        format: of this record.
        version: the version's number.
        digest: the payload's digest.
        kind: of payload.
        files: every file below the version's directory.
        provenance: where the payload comes from, in the publisher's own keys (pipeline, model artifact, ...).
        published_at: when, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    version: int
    digest: str
    kind: Kind
    files: tuple[PayloadFile, ...]
    provenance: dict[str, str] = {}
    published_at: datetime


class _State(BaseModel):
    """What the store remembers when directories vanish."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_version: int


@dataclass(frozen=True)
class Version:
    """A whole version in the base path.

    Attributes:
        number: as TF Serving reads it.
        path: its directory.
        digest: of its payload as the manifest says; "" for a version that this store did not publish.
    """

    number: int
    path: Path
    digest: str

    @property
    def payload(self) -> Path:
        """What to load: the directory of a SavedModel, or the `.tflite` file in it."""
        file = self.path / TFLITE_NAME
        return file if file.is_file() and not _is_saved_model(self.path) else self.path


@dataclass(frozen=True)
class Published:
    """What `VersionStore.publish` did.

    Attributes:
        version: the number that holds the payload: a new one, or the newest one, which already did.
        path: its directory.
        outcome: `pushed` for a new version, else `already_served`.
        reason: why, in one sentence without a full stop.
        published_at: when that version was published, UTC.
    """

    version: int
    path: Path
    outcome: Literal["pushed", "already_served"]
    reason: str
    published_at: datetime


class FileSystem:
    """The calls that change the disk. Tests trace them, or make them fail where a disk would."""

    def make_directory(self, path: Path) -> None:
        """Make one directory whose parent exists; it may exist already."""
        path.mkdir(exist_ok=True)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a whole file and sync it."""
        with path.open("wb") as handle:
            for chunk in chunks:
                handle.write(chunk)
            handle.flush()
            self.sync(handle.fileno(), path)

    def sync(self, descriptor: int, path: Path) -> None:
        """Have the file or directory written through to the disk; `path` says which one it is."""
        os.fsync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Sync the names in a directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or directory another name, in one step."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a file, or a directory with all it holds."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def version_number(name: str) -> int | None:
    """The version that TF Serving takes an entry of a base path for, or None where it skips the entry.

    It reads names with `absl::SimpleAtoi<int64>`: leading zeros, a sign and blanks around the digits do parse.

    >>> version_number("7"), version_number("007"), version_number(" +7"), version_number("7.tmp")
    (7, 7, 7, None)
    """
    match = _INTEGER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -_LARGEST_INT64 - 1 <= number <= _LARGEST_INT64 else None


class VersionStore:
    """The versions below one base path."""

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        *,
        lock_timeout_s: float = 60.0,
        file_system: FileSystem | None = None,
    ) -> None:
        """A store on `base_path`, which need not exist yet; nothing is touched before the first publish.

        Args:
            base_path: the directory that TF Serving watches.
            lock_timeout_s: how long a publish waits for another publisher, in seconds.
            file_system: the calls that change the disk.
        """
        self.base_path = Path(base_path)
        self._lock_timeout_s = lock_timeout_s
        self._fs = file_system or FileSystem()
        self._inner = self.base_path / _INNER
        self._manifests = self._inner / "manifests"

    # --- reading ------------------------------------------------------------------------------------------------------

    def versions(self) -> tuple[int, ...]:
        """The numbers of the whole versions, rising.

        A version that the store published is whole while every file of its manifest is there in its size; `verify`
        reads the bytes too. A version from elsewhere is whole when it holds a payload.

        Raises:
            StoreError: the base path is there and cannot be read.
        """
        return tuple(sorted({version.number for version in self._whole()}))

    def newest(self) -> Version | None:
        """The whole version with the largest number, or None; raises as `versions`."""
        return next(self._whole(), None)

    def state(self) -> str:
        """A short text that changes whenever what is newest changes: its number and digest; "" for an empty base path.

        An entry that hides the newest whole version from TF Serving, as a broken directory with a larger number does,
        is part of it. Damage inside a file of unchanged size is not seen: that is `verify`'s to find.

        Raises:
            StoreError: as `versions`.
        """
        newest = self.newest()
        parts = [f"{newest.number}:{newest.digest}"] if newest else []
        hiding = self._hides(newest)
        return " ".join([*parts, f"behind {hiding!r}"] if hiding else parts)

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version that this store published.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        path = self._manifest_path(version)
        try:
            found = Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(
                str(self.base_path / str(version)),
                f"version {version} has no manifest",
                expected=str(path),
                remedy="It was not published by this store, so nothing tells what its bytes should be.",
            ) from error
        except (OSError, ValidationError) as error:
            raise StoreError(str(path), f"the manifest of version {version} cannot be read: {_first(error)}") from error
        if found.version != version or digest_of(found.files) != found.digest:
            raise StoreError(str(path), f"the manifest of version {version} contradicts itself: it was changed")
        return found

    def verify(self, version: int) -> None:
        """Compare every byte of a version with its manifest.

        Raises:
            DigestMismatchError: a file is missing, is too many, or holds other bytes; the message names it.
            StoreError: there is no such manifest, or a file cannot be read.
        """
        manifest = self.manifest(version)
        path = self.base_path / str(version)
        try:
            found = scan(path) if path.is_dir() else ()
        except NotAPayloadError as error:
            raise DigestMismatchError(error.thing, f"is in version {version} and {error.problem}") from error
        difference = _difference(manifest.files, found)
        if difference:
            raise DigestMismatchError(
                str(path / difference[0]),
                f"{difference[1]}, so version {version} no longer is what was published",
                remedy="Push the payload again: it gets a new version.",
            )

    def why_not_served(self, digest: str) -> str:
        """Why a server of the latest version does not load exactly the payload `digest`, or "" where it does.

        Reads every byte of the newest version. The answer is one sentence without a full stop.

        Raises:
            StoreError: as `versions`.
        """
        newest = self.newest()
        hiding = self._hides(newest)
        if hiding:
            return f"the entry {hiding!r} in {self.base_path} is what TF Serving takes for the latest version"
        if newest is None:
            return f"{self.base_path} holds no version"
        if not newest.digest:
            return f"the newest version in {self.base_path}, {newest.path.name}, was not published by this store"
        if newest.digest != digest:
            return f"the newest version in {self.base_path}, {newest.number}, holds other bytes"
        try:
            self.verify(newest.number)
        except StoreError as error:
            return f"version {newest.number} is damaged ({error.thing} {error.problem})"
        return ""

    def _entries(self) -> list[tuple[int, str]]:
        """Number and name of everything that TF Serving takes for a version, largest first, `7` before `007`."""
        try:
            names = os.listdir(self.base_path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                str(self.base_path), f"cannot be read: {error.strerror}", expected="a directory of versions"
            ) from error
        numbered = [(number, name) for name in names if (number := version_number(name)) is not None]
        return sorted(numbered, key=lambda entry: (-entry[0], entry[1] != str(entry[0]), entry[1]))

    def _whole(self) -> Iterator[Version]:
        """The whole versions, largest first."""
        for number, name in self._entries():
            path = self.base_path / name
            manifest = self._manifest_or_none(number) if name == str(number) else None
            if manifest is None and _is_payload(path):
                yield Version(number, path, "")
            elif manifest is not None and _has_sizes(path, manifest.files):
                yield Version(number, path, manifest.digest)

    def _hides(self, newest: Version | None) -> str:
        """The name of an entry that TF Serving takes for the latest version, or may, instead of `newest`; or ""."""
        for number, name in self._entries():
            if newest is None or number > newest.number or (number == newest.number and name != newest.path.name):
                return name
        return ""

    def _manifest_path(self, version: int) -> Path:
        return self._manifests / f"{version}.json"

    def _manifest_or_none(self, version: int) -> Manifest | None:
        """The manifest; None where there is none or it is damaged, so that nothing vouches for the bytes."""
        try:
            return self.manifest(version)
        except StoreError:
            return None

    # --- publishing ---------------------------------------------------------------------------------------------------

    def publish(
        self, payload: str | os.PathLike[str], expected_digest: str, provenance: Mapping[str, str]
    ) -> Published:
        """Make the payload the newest version, unless it already is.

        The new version is the largest number ever used here, plus one.

        Args:
            payload: a SavedModel directory or a `.tflite` file, on any file system.
            expected_digest: of the bytes that were measured.
            provenance: where the payload comes from, for the manifest.

        Raises:
            DigestMismatchError: the payload's bytes, or the copied ones, are not those of `expected_digest`.
            NotAPayloadError: `payload` is none.
            StoreBusyError: another publisher kept the lock for longer than `lock_timeout_s`.
            StoreError: the disk refuses. As in the cases above, no version was made and none was touched, unless the
                message says that the new version is visible.
        """
        source = Path(payload)
        contents = files(source)
        _refuse_other_bytes(source, digest_of(contents), expected_digest)
        with self._explained("make the base path ready"):
            self._make_directories(self._manifests)
        with self._locked():
            self._sweep()
            why = self.why_not_served(expected_digest)
            if not why:
                return self._already_served()
            manifest = self._publish_new(source, contents, expected_digest, provenance)
        path = self.base_path / str(manifest.version)
        return Published(manifest.version, path, "pushed", why, manifest.published_at)

    def _already_served(self) -> Published:
        newest = self.newest()
        if newest is None:  # pragma: no cover  (why_not_served has just seen it)
            raise StoreError(str(self.base_path), "the newest version vanished while it was read", remedy="Push again.")
        with self._explained(f"make version {newest.number} durable"):
            self._fs.sync_directory(self.base_path)  # its publisher may have died before it came to that
        reason = f"version {newest.number} holds these bytes"
        published_at = self.manifest(newest.number).published_at
        return Published(newest.number, newest.path, "already_served", reason, published_at)

    def _publish_new(
        self, source: Path, contents: tuple[PayloadFile, ...], digest: str, provenance: Mapping[str, str]
    ) -> Manifest:
        staging = self.base_path / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            self._stage(source, contents, staging)
            manifest = Manifest(
                version=self._next_number(),
                digest=digest,
                kind=kind(source),
                files=contents,
                provenance=dict(provenance),
                published_at=datetime.now(UTC),
            )
            self._commit(staging, manifest)
        finally:
            with suppress(OSError):  # what is left is swept by the next publish
                if staging.exists():
                    self._fs.remove(staging)
        return manifest

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
                self._fs.write(target, _chunks(source if single else source / file.path))
        with self._explained(f"sync {staging}"):
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                self._fs.sync_directory(folder)
        difference = _difference(contents, scan(staging))
        if difference:
            raise DigestMismatchError(
                str(source / difference[0]),
                f"its copy is not what was read before: it {difference[1]}",
                remedy="Something changed the payload meanwhile, or the disk is faulty. Nothing was published.",
            )

    def _commit(self, staging: Path, manifest: Manifest) -> None:
        """Note the number, write the manifest, and make the version visible."""
        number = manifest.version
        with self._explained(f"note version {number}"):
            self._replace(self._inner / "state.json", _State(largest_version=number).model_dump_json())
            self._replace(self._manifest_path(number), manifest.model_dump_json(indent=1))
        try:
            with self._explained(f"rename {staging} to {number}"):
                self._fs.rename(staging, self.base_path / str(number))
        except StoreError:
            with suppress(OSError):
                self._fs.remove(self._manifest_path(number))
            raise
        with self._explained(
            f"sync the base path after version {number} became visible", "Push again: it is found and synced."
        ):
            self._fs.sync_directory(self.base_path)

    def _next_number(self) -> int:
        """The largest number that is, or ever was, in use here, plus one; at least 1."""
        manifests = (version_number(name.removesuffix(".json")) for name in os.listdir(self._manifests))
        used = [number for number in manifests if number is not None]
        used += [number for number, _ in self._entries()]
        number = max(0, self._largest_noted(), *used) + 1
        if number > _LARGEST_INT64:
            raise StoreError(
                str(self.base_path),
                "no larger version number is left",
                got=f"an entry numbered {number - 1}",
                remedy="Remove that entry and .satisfice/state.json.",
            )
        return number

    def _largest_noted(self) -> int:
        path = self._inner / "state.json"
        try:
            return _State.model_validate_json(path.read_bytes()).largest_version
        except FileNotFoundError:
            return 0
        except (OSError, ValidationError) as error:
            raise StoreError(
                str(path),
                f"cannot be read: {_first(error)}",
                expected='{"largest_version": NUMBER}',
                remedy="Remove it: the number is then taken from the manifests and directories.",
            ) from error

    def _sweep(self) -> None:
        """Remove what publishers left that died; none is at work while we hold the lock."""
        with self._explained("remove what a publisher left that died"):
            for path in sorted(self.base_path.glob(f"{_STAGING}*")):
                self._fs.remove(path)

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
        temporary = path.with_name(path.name + ".tmp")
        self._fs.write(temporary, [text.encode()])
        self._fs.rename(temporary, path)
        self._fs.sync_directory(path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the base path's lock, with who holds it written inside. The system frees it when the process ends."""
        path = self._inner / "lock"
        with self._explained(f"open {path}"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with self._explained(f"lock {path}"):
                _wait_for_lock(descriptor, self._lock_timeout_s, self._busy)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _holder().encode(), 0)
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _busy(self, descriptor: int) -> StoreBusyError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "it does not say who it is"
        return StoreBusyError(
            str(self.base_path),
            f"another publisher has held the lock for more than {self._lock_timeout_s:g} s: {holder}",
            remedy="Wait until it is done and push again. If it hangs, end that process: the lock goes with it.",
        )

    @contextmanager
    def _explained(self, act: str, remedy: str = "") -> Iterator[None]:
        """Turn an error of the operating system into one that says what was tried, where, and what to do."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                str(error.filename or self.base_path),
                f"could not {act}: {error.strerror or error}",
                remedy=remedy or f"{_remedy(error)} Nothing was published; earlier versions are untouched.",
            ) from error


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free space on its file system, then push again."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Give this user write permission to the base path and everything in it, then push again."
    if error.errno == errno.EROFS:
        return "Mount it writable, or set another base_path under push."
    return "Mend that, then push again."


def _refuse_other_bytes(source: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DigestMismatchError(
            str(source),
            "its bytes are not the bytes that were measured",
            expected=f"digest {expected}",
            got=f"digest {found}",
            remedy="Run the pipeline again, so that what ships is what is measured. Nothing was published.",
        )


def _difference(expected: Iterable[PayloadFile], found: Iterable[PayloadFile]) -> tuple[str, str] | None:
    """The first file that differs and how, or None."""
    wanted, present = ({file.path: file for file in listing} for listing in (expected, found))
    for path in sorted(wanted.keys() | present.keys()):
        if path not in present:
            return path, "is missing"
        if path not in wanted:
            return path, "does not belong there"
        if wanted[path] != present[path]:
            return path, "holds other bytes"
    return None


def _is_saved_model(path: Path) -> bool:
    try:
        return kind(path) == "saved_model"
    except StoreError:
        return False


def _is_payload(path: Path) -> bool:
    """True for a directory that a server could load as a version."""
    if _is_saved_model(path):
        return True
    try:
        return kind(path / TFLITE_NAME) == "tflite"
    except StoreError:
        return False


def _has_sizes(path: Path, expected: Iterable[PayloadFile]) -> bool:
    try:
        return all((path / file.path).stat().st_size == file.size for file in expected)
    except OSError:
        return False


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            yield chunk


def _wait_for_lock(descriptor: int, timeout_s: float, busy: Callable[[int], StoreBusyError]) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise busy(descriptor) from error
            time.sleep(_LOCK_POLL_S)


def _holder() -> str:
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    return json.dumps(who)


def _first(error: Exception) -> str:
    """The gist of a foreign error, on one line."""
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return getattr(error, "strerror", None) or str(error)
