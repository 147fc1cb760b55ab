"""A version store in a bucket of Google Cloud Storage: `gs://BUCKET/PREFIX`.

A bucket has no lock and no rename; what stands in their place are preconditions on the generation of an object, which the
service checks and carries out in one step:

- A number is claimed by making `.satisfice/manifests/N.json` with `ifGenerationMatch=0`: of two publishers one gets it, and
  the other looks again at everything it had decided on before it tries the next number. A claim is never taken back: a
  number that was claimed and not completed is used up.
- The objects of a version are made with `ifGenerationMatch=0` too, the one that makes it a model (`saved_model.pb`) last:
  whoever takes a numbered folder for a version only where that object is there never sees a part of one. TF Serving itself
  takes any numbered folder, tries to load it, fails, and tries again: let it retry at least once, or load specific versions.
- Pins, labels and refusals are one object, replaced only in the generation that was read.
- A version is removed from `saved_model.pb` on. A repair (`serving.store.cloud_repair`) copies what it takes out of the way
  first, and removes exactly the generation that it has copied. What a publisher left that died is removed by a later act, when its claim is
  a day older than the newest object, by the service's clock.

What is written here was run against a fake of the service's JSON interface (`tests/serving/store/fake_gcs.py`), and never
against the service itself. A bucket that is mounted (gcsfuse) is no place for the store on disk: a mount renames folders
object by object. On NFS, SMB or Lustre take the store on disk, whose lock and claims hold there (`serving.store.lock`).
"""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from schemas.errors import DigestMismatchError, StoreBusyError, StoreError
from serving.payload import TFLITE_NAME, PayloadFile, digest_of, kind
from serving.store.disk import FileSystem, gist
from serving.store.lock import Held
from serving.store.names import ASIDE, INNER, version_number
from serving.store.read import Version, difference
from serving.store.records import Manifest, Marks, Refusal, Rollback
from serving.store.versions import LabelMove, Published, VersionStore

__all__ = ["LAST", "SCHEME", "CloudVersionStore", "ConflictError"]

SCHEME = "gs://"
Done = TypeVar("Done")

LAST = ("saved_model.pb", "saved_model.pbtxt", TFLITE_NAME)
"""What makes a folder a model; made last, removed first."""

_SHA256 = "sha256"
_CLAIM = "claim"
_TRIES = 200
_PAUSE_S = 0.02
_ABANDONED = timedelta(days=1)


class ConflictError(Exception):
    """Another publisher was quicker: what was decided on is to be looked at again."""


class _Uri(PurePosixPath):
    """A place in a bucket, spelled with both slashes."""

    def __str__(self) -> str:
        return super().__str__().replace("gs:/", SCHEME, 1)

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no file of this machine")


class _NoDisk(FileSystem):
    """What was written to a bucket is durable when the call returns."""

    def sync_directory(self, path: Path) -> None:
        """Nothing to do."""


class CloudVersionStore(VersionStore):
    """The versions below `gs://BUCKET/PREFIX`, and everything that can be done to them."""

    def __init__(
        self,
        base_path: str,
        *,
        lock_timeout_s: float = 60.0,
        clock: Callable[[], datetime] | None = None,
        client: Any = None,
    ) -> None:
        """A store; nothing is asked or made yet.

        Args:
            base_path: `gs://BUCKET/PREFIX`.
            lock_timeout_s: how long to try again when others are quicker, in seconds.
            clock: the time, UTC; it is written down and decides nothing.
            client: of `google.cloud.storage`; None for one with the credentials of the environment
                (`STORAGE_EMULATOR_HOST` names another service).
        """
        place = cast("Path", _Uri(base_path.rstrip("/")))
        super().__init__(".", lock_timeout_s=lock_timeout_s, file_system=_NoDisk(), clock=clock)
        self.base_path = place
        self.inner = place / INNER
        self.manifests = self.inner / "manifests"
        self.removed_manifests = self.inner / "removed"
        self._bucket_name, _, prefix = base_path.removeprefix(SCHEME).rstrip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client
        self._marks_generation = 0

    # --- reading ------------------------------------------------------------------------------------------------------

    def entries(self) -> list[tuple[int, str]]:
        """Number and name of every folder that holds a model, largest first."""
        return self._entries_of(self._objects())

    def _entries_of(self, objects: Mapping[str, Any]) -> list[tuple[int, str]]:
        found = {name.partition("/")[0] for name in objects if name.partition("/")[2] in LAST}
        numbered = [(number, name) for name in found if (number := version_number(name)) is not None]
        return sorted(numbered, key=_largest_first)

    def seen(self) -> list[tuple[int, str]]:
        """See `StoreReader.seen`: a folder is there as soon as it holds an object."""
        names = {name.partition("/")[0] for name in self._objects()}
        numbered = [(number, name) for name in names if (number := version_number(name)) is not None]
        return sorted(numbered, key=_largest_first)

    def what_is(self, name: str) -> Literal["model", "file", "folder"]:
        """See `StoreReader.what_is`."""
        objects = self._objects()
        if any(f"{name}/{file}" in objects for file in LAST):
            return "model"
        return "file" if name in objects else "folder"

    def under_way(self) -> set[int]:
        """The versions that were claimed within the last day, and are not whole yet."""
        objects = self._objects()
        return self._unfinished(objects) - self._abandoned(objects)

    def whole(self) -> Iterator[Version]:
        """The whole versions, largest first; see `StoreReader.whole`."""
        objects = self._objects()
        for number, name in self._entries_of(objects):
            path = self.base_path / name
            manifest = self._manifest_or_none(number) if name == str(number) else None
            if manifest is None:
                yield Version(number, path, "")
            elif all(_size(objects.get(f"{name}/{file.path}")) == file.size for file in manifest.files):
                yield Version(number, path, manifest.digest)

    def has(self, version: int) -> bool:
        """Whether a model is there under a number."""
        return any(name == str(version) for _, name in self.entries())

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version that this store published; see `StoreReader.manifest`."""
        found = self._manifest_in(self.manifests, version)
        if found is None:
            raise StoreError(
                str(self.base_path / str(version)),
                f"version {version} has no manifest",
                expected=str(self.manifest_path(version)),
                remedy="It was not published by this store, so nothing tells what its bytes should be.",
            )
        return found

    def removed_manifest(self, version: int) -> Manifest | None:
        """The manifest of a version that was removed, or None."""
        return self._manifest_in(self.removed_manifests, version)

    def all_manifests(self) -> list[Manifest]:
        """The manifests of all versions ever, rising; damaged ones are left out."""
        found: dict[int, Manifest] = {}
        for folder in (self.removed_manifests, self.manifests):
            for number in self.numbers_with_manifest(folder):
                try:
                    manifest = self._manifest_in(folder, number)
                except StoreError:
                    continue
                if manifest is not None:
                    found[number] = manifest
        return [found[number] for number in sorted(found)]

    def numbers_with_manifest(self, folder: Path) -> list[int]:
        """The versions of which a folder holds manifests."""
        return self._numbers_of(self._objects(), folder)

    def _numbers_of(self, objects: Mapping[str, Any], folder: Path) -> list[int]:
        within = f"{self._name(folder)}/"
        names = [name.removeprefix(within) for name in objects if name.startswith(within)]
        return [n for name in names if (n := version_number(name.removesuffix(".json"))) is not None]

    def largest_noted(self) -> int | None:
        """The largest number ever claimed; None where there was none."""
        objects = self._objects()
        claimed = self._numbers_of(objects, self.manifests) + self._numbers_of(objects, self.removed_manifests)
        return max([*claimed, *self._aside_of(objects)], default=None)

    def _aside_of(self, objects: Mapping[str, Any]) -> Iterator[int]:
        """The versions whose manifests a repair moved aside: `.satisfice/aside/TIME/7.json`."""
        within = PurePosixPath(INNER, ASIDE)
        for path in map(PurePosixPath, objects):
            number = version_number(path.stem)
            if number is not None and path.suffix == ".json" and path.parent.parent == within:
                yield number

    def marks(self) -> Marks:
        """The pins, labels and refusals."""
        found = self._read(self.inner / "marks.json")
        if found is None:
            self._marks_generation = 0
            return Marks()
        content, self._marks_generation = found
        try:
            return Marks.model_validate_json(content)
        except ValidationError as error:
            raise StoreError(
                str(self.inner / "marks.json"),
                f"cannot be read: {gist(error)}",
                expected="the pins, labels and refused digests of this base path",
                remedy="Bring an older generation of the object back; or `satisfice fsck --repair` puts it aside and makes a new"
                " one of what the manifests tell.",
            ) from error

    def verify(self, version: int) -> None:
        """Download every object of a version and compare its bytes; see `StoreReader.verify`."""
        manifest = self.manifest(version)
        found = []
        for name, blob in sorted(self._files_of_version(version).items()):
            with self._asked(f"read {name}"):
                content = blob.download_as_bytes()
            found.append(PayloadFile(name, len(content), hashlib.sha256(content).hexdigest()))
        self._refuse_difference(manifest, tuple(found))

    def read(self, version: int, path: Path) -> bytes | None:
        """See `StoreReader.read`."""
        found = self._read(self.base_path / str(version) / path)
        return found[0] if found is not None else None

    def _unchanged(self, version: int) -> None:
        """Compare sizes, and the sums that were written beside the objects: who replaces an object loses them."""
        found = tuple(
            PayloadFile(name, _size(blob) or 0, (blob.metadata or {}).get(_SHA256, ""))
            for name, blob in sorted(self._files_of_version(version).items())
        )
        self._refuse_difference(self.manifest(version), found)

    def fetch(self, version: int, file: PayloadFile, target: Path) -> None:
        """Download one file of a version, and make sure that it holds the bytes of its manifest.

        Args:
            version: its number.
            file: as the manifest has it.
            target: where to, on this machine; a file that is there is replaced.

        Raises:
            DigestMismatchError: it holds other bytes, or is gone.
            StoreError: the service cannot be asked.
            OSError: the disk refuses.
        """
        from google.api_core.exceptions import NotFound

        blob = self._blob(self.base_path / str(version) / file.path)
        held: tuple[PayloadFile, ...] = ()
        with target.open("w+b") as opened, self._asked(f"read {blob.name}"):
            try:
                blob.download_to_file(opened)
            except NotFound:
                pass
            else:
                opened.seek(0)
                content = hashlib.file_digest(opened, "sha256")
                held = (PayloadFile(file.path, opened.tell(), content.hexdigest()),)
        differs = difference((file,), held)
        if differs:
            raise DigestMismatchError(
                str(self.base_path / str(version) / file.path),
                f"{differs[1]}, so version {version} no longer is what was published",
                remedy="Push the payload again: it gets a new version.",
            )

    def _refuse_difference(self, manifest: Manifest, found: tuple[PayloadFile, ...]) -> None:
        differs = difference(manifest.files, found)
        if differs:
            raise DigestMismatchError(
                str(self.base_path / str(manifest.version) / differs[0]),
                f"{differs[1]}, so version {manifest.version} no longer is what was published",
                remedy="Push the payload again: it gets a new version.",
            )

    # --- acts, each again from the start where another publisher was quicker ------------------------------------------

    def publish(self, *args: Any, **more: Any) -> Published:
        """See `VersionStore.publish`."""
        return self._persist(super().publish, *args, **more)

    def rollback(self, *args: Any, **more: Any) -> Published:
        """See `VersionStore.rollback`."""
        return self._persist(super().rollback, *args, **more)

    def withdraw(self, *args: Any, **more: Any) -> Manifest:
        """See `VersionStore.withdraw`."""
        return self._persist(super().withdraw, *args, **more)

    def allow(self, *args: Any, **more: Any) -> tuple[str, Refusal]:
        """See `VersionStore.allow`."""
        return self._persist(super().allow, *args, **more)

    def pin(self, *args: Any, **more: Any) -> None:
        """See `VersionStore.pin`."""
        self._persist(super().pin, *args, **more)

    def unpin(self, *args: Any, **more: Any) -> None:
        """See `VersionStore.unpin`."""
        self._persist(super().unpin, *args, **more)

    def begin_label(self, *args: Any, **more: Any) -> LabelMove:
        """See `VersionStore.begin_label`."""
        return self._persist(super().begin_label, *args, **more)

    def finish_label(self, *args: Any, **more: Any) -> LabelMove:
        """See `VersionStore.finish_label`."""
        return self._persist(super().finish_label, *args, **more)

    def drop_label(self, *args: Any, **more: Any) -> int | None:
        """See `VersionStore.drop_label`."""
        return self._persist(super().drop_label, *args, **more)

    def retain(self, *args: Any, **more: Any) -> tuple[int, ...]:
        """See `VersionStore.retain`."""
        return self._persist(super().retain, *args, **more)

    def _persist(self, act: Callable[..., Done], *args: Any, **more: Any) -> Done:
        deadline = time.monotonic() + self._lock_timeout_s
        for _ in range(_TRIES):
            try:
                return act(*args, **more)
            except ConflictError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE_S)
        raise StoreBusyError(
            str(self.base_path), "other publishers were quicker again and again", remedy="Wait, and try again."
        )

    # --- what the acts are made of ------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, *, sweep: bool = True) -> Iterator[Held]:
        """No lock: each write states what it found."""
        if sweep:
            self._sweep_abandoned()
        yield cast("Held", None)

    def _head(self) -> Version | None:
        """The newest claim, whether its objects are all there yet or not."""
        number = max(self.numbers_with_manifest(self.manifests), default=None)
        if number is None:
            return None
        return Version(number, self.base_path / str(number), self.manifest(number).digest)

    def _payload_of(self, version: int, digest: str) -> Path:
        return self.base_path / str(version)

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
        """Claim the next number, then upload or copy the payload; see `StoreWriter._publish_new`."""
        last = self.largest_noted() or 0
        number = max(0, above, last, *(number for number, _ in self.entries())) + 1
        copied = isinstance(source, _Uri)
        manifest = Manifest(
            version=number,
            digest=digest_of(contents),
            kind=self.manifest(int(source.name)).kind if copied else kind(source),
            files=contents,
            provenance=dict(provenance),
            rollback=rollback,
            published_at=self._clock(),
        )
        self._claim(manifest)
        try:
            if marks is not None:
                self._note_marks(marks)
            for file in sorted(contents, key=lambda one: one.path in LAST):
                self._put(number, file, source)
        except (ConflictError, StoreError):
            self._discard(number)
            raise
        return manifest

    def _claim(self, manifest: Manifest) -> None:
        token = uuid.uuid4().hex
        blob = self._blob(self.manifest_path(manifest.version))
        blob.metadata = {_CLAIM: token}
        content = manifest.model_dump_json(indent=1)
        if not self._made(blob, lambda: blob.upload_from_string(content, "application/json", if_generation_match=0)):
            with self._asked("look who has the number"):
                found = self._bucket.get_blob(blob.name)
            if found is None or (found.metadata or {}).get(_CLAIM) != token:
                raise ConflictError

    def _put(self, number: int, file: PayloadFile, source: Path) -> None:
        """Make one object of a version, and make sure that it holds the bytes that were measured."""
        blob = self._blob(self.base_path / str(number) / file.path)
        blob.metadata = {_SHA256: file.sha256}
        if isinstance(source, _Uri):
            origin = self._blob(source / file.path)

            def make() -> None:
                token, _, _ = blob.rewrite(origin, if_generation_match=0)
                while token is not None:
                    token, _, _ = blob.rewrite(origin, token=token, if_generation_match=0)

        else:
            path = source if source.is_file() else source / file.path
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != file.sha256:
                raise DigestMismatchError(
                    str(path),
                    "its copy is not what was read before: it holds other bytes",
                    remedy="Something changed the payload meanwhile. Nothing was published.",
                )
            media = mimetypes.guess_type(path.name)[0] or "application/octet-stream"

            def make() -> None:
                blob.upload_from_filename(path, media, if_generation_match=0, checksum="crc32c")

        if not self._made(blob, make):
            raise StoreError(
                str(self.base_path / str(number) / file.path),
                "is there already, although the number was free",
                remedy="Somebody writes into the base path without this store: find out who, then push again.",
            )

    def _made(self, blob: Any, make: Callable[[], Any]) -> bool:
        """Whether an object was made now; False where it is there already."""
        from google.api_core.exceptions import PreconditionFailed

        with self._asked(f"write {blob.name}"):
            try:
                make()
            except PreconditionFailed:
                return False
        return True

    def _discard(self, version: int) -> None:
        """Remove a version, from what makes it one on, and file its manifest with the removed ones."""
        objects = self._of_version(version)
        for name in sorted(objects, key=lambda one: one not in LAST):
            self._delete(objects[name])
        found = self._read(self.manifest_path(version))
        if found is not None:
            removed = self._blob(self.removed_manifests / f"{version}.json")
            with self._asked(f"file the manifest of version {version}"):
                removed.upload_from_string(found[0], "application/json")
            self._delete(self._blob(self.manifest_path(version)))

    def _sweep_abandoned(self) -> None:
        """Remove what publishers left that died a day ago or more, by the service's clock."""
        for number in sorted(self._abandoned(self._objects())):
            self._discard(number)

    def _unfinished(self, objects: Mapping[str, Any]) -> set[int]:
        """The versions that are claimed and hold no model."""
        return set(self._numbers_of(objects, self.manifests)) - {number for number, _ in self._entries_of(objects)}

    def _abandoned(self, objects: Mapping[str, Any]) -> set[int]:
        """Those of them that were claimed a day ago or more, by the service's clock."""
        newest = max((blob.updated for blob in objects.values()), default=None)
        claims = {number: objects[self._name(self.manifest_path(number))] for number in self._unfinished(objects)}
        return {number for number, claim in claims.items() if newest and newest - claim.updated > _ABANDONED}

    def _note_marks(self, marks: Marks) -> None:
        blob = self._blob(self.inner / "marks.json")
        text, seen = marks.model_dump_json(indent=1), self._marks_generation
        if not self._made(blob, lambda: blob.upload_from_string(text, "application/json", if_generation_match=seen)):
            raise ConflictError

    def _replace(self, path: Path, text: str) -> None:
        blob = self._blob(path)
        with self._asked(f"write {blob.name}"):
            blob.upload_from_string(text, "application/json")

    # --- the service --------------------------------------------------------------------------------------------------

    @property
    def _bucket(self) -> Any:
        if self._client is None:
            from google.cloud import storage

            with self._asked("find credentials"):
                self._client = storage.Client()
        return self._client.bucket(self._bucket_name)

    def _objects(self) -> dict[str, Any]:
        """Every object below the base path, by its name there."""
        with self._asked("list the base path"):
            found = list(self._bucket.list_blobs(prefix=self._prefix))
        return {blob.name.removeprefix(self._prefix): blob for blob in found}

    def _of_version(self, version: int) -> dict[str, Any]:
        """The objects of a version, by their names in it."""
        within = f"{version}/"
        return {name.removeprefix(within): one for name, one in self._objects().items() if name.startswith(within)}

    def _files_of_version(self, version: int) -> dict[str, Any]:
        """The same without the empty objects that some tools make for a folder."""
        found = self._of_version(version).items()
        return {name: blob for name, blob in found if name and not name.endswith("/")}

    def _manifest_in(self, folder: Path, version: int) -> Manifest | None:
        path = folder / f"{version}.json"
        found = self._read(path)
        if found is None:
            return None
        try:
            manifest = Manifest.model_validate_json(found[0])
        except ValidationError as error:
            raise StoreError(str(path), f"the manifest of version {version} cannot be read: {gist(error)}") from error
        if manifest.version != version or digest_of(manifest.files) != manifest.digest:
            raise StoreError(str(path), f"the manifest of version {version} contradicts itself: it was changed")
        return manifest

    def _read(self, path: Path) -> tuple[bytes, int] | None:
        """An object's content and generation; None where there is none."""
        from google.api_core.exceptions import NotFound

        blob = self._blob(path)
        with self._asked(f"read {blob.name}"):
            try:
                return blob.download_as_bytes(), int(blob.generation)
            except NotFound:
                return None

    def _delete(self, blob: Any) -> None:
        from google.api_core.exceptions import NotFound

        with self._asked(f"remove {blob.name}"):
            try:
                blob.delete()
            except NotFound:
                return

    def _name(self, path: Path) -> str:
        return str(path).removeprefix(f"{self.base_path}/")

    def _blob(self, path: Path) -> Any:
        return self._bucket.blob(f"{self._prefix}{self._name(path)}")

    @contextmanager
    def _asked(self, act: str) -> Iterator[None]:
        """Turn an error of the service into one that says what was tried."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
            if isinstance(error, StoreError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StoreError(
                str(self.base_path),
                f"could not {act}: {' '.join(str(error).split())}",
                remedy="Check the bucket, its permissions and the credentials. Earlier versions are untouched.",
            ) from error


def _largest_first(entry: tuple[int, str]) -> tuple[int, bool, str]:
    return (-entry[0], entry[1] != str(entry[0]), entry[1])


def _size(blob: Any) -> int | None:
    return None if blob is None else int(blob.size)
