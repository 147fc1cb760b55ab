"""Reading a version store. It needs no lock and makes no file.

TF Serving's own rules for names (any text that parses as a 64-bit integer, directory or not, complete or not) are in
`serving.store.names`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.errors import DigestMismatchError, NotAPayloadError, StoreError
from serving.payload import TFLITE_NAME, PayloadFile, digest_of, kind, scan
from serving.store.disk import gist
from serving.store.names import INNER, version_number
from serving.store.records import Manifest, Marks, State

__all__ = ["StoreReader", "Version", "difference", "is_payload", "read_manifest"]


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


class StoreReader:
    """The versions below one base path, and what is written down of them."""

    def __init__(self, base_path: str | os.PathLike[str]) -> None:
        """A view on `base_path`, which need not exist."""
        self.base_path = Path(base_path)
        self.inner = self.base_path / INNER
        self.manifests = self.inner / "manifests"
        self.removed_manifests = self.inner / "removed"

    def versions(self) -> tuple[int, ...]:
        """The numbers of the whole versions, rising.

        A version that the store published is whole while every file of its manifest is there in its size; `verify`
        reads the bytes too. A version from elsewhere is whole when it holds a payload.

        Raises:
            StoreError: the base path is there and cannot be read.
        """
        return tuple(sorted({version.number for version in self.whole()}))

    def has(self, version: int) -> bool:
        """Whether something is there under a number, whole or not."""
        return (self.base_path / str(version)).exists()

    def newest(self) -> Version | None:
        """The whole version with the largest number, or None; raises as `versions`."""
        return next(self.whole(), None)

    def whole(self) -> Iterator[Version]:
        """The whole versions, largest first; raises as `versions`."""
        for number, name in self.entries():
            path = self.base_path / name
            manifest = self._manifest_or_none(number) if name == str(number) else None
            if manifest is None and is_payload(path):
                yield Version(number, path, "")
            elif manifest is not None and _has_sizes(path, manifest.files):
                yield Version(number, path, manifest.digest)

    def state(self) -> str:
        """A short text that changes whenever what is newest changes: its number and digest; "" for an empty base path.

        An entry that hides the newest whole version from TF Serving, as a broken directory with a larger number does,
        is part of it. Damage inside a file of unchanged size is not seen: that is `verify`'s to find.

        Raises:
            StoreError: as `versions`.
        """
        newest = self.newest()
        parts = [f"{newest.number}:{newest.digest}"] if newest else []
        hiding = self.hides(newest)
        return " ".join([*parts, f"behind {hiding!r}"] if hiding else parts)

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version that this store published.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        path = self.manifest_path(version)
        try:
            return read_manifest(path, version)
        except FileNotFoundError as error:
            raise StoreError(
                str(self.base_path / str(version)),
                f"version {version} has no manifest",
                expected=str(path),
                remedy="It was not published by this store, so nothing tells what its bytes should be.",
            ) from error

    def removed_manifest(self, version: int) -> Manifest | None:
        """The manifest of a version that retention removed, or None; raises as `manifest` where it is damaged."""
        try:
            return read_manifest(self.removed_manifests / f"{version}.json", version)
        except FileNotFoundError:
            return None

    def marks(self) -> Marks:
        """The pins, labels and refusals.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.inner / "marks.json"
        try:
            return Marks.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Marks()
        except (OSError, ValidationError) as error:
            raise StoreError(
                str(path),
                f"cannot be read: {gist(error)}",
                expected="the pins, labels and refused digests of this base path",
                remedy="`satisfice fsck --repair` puts it aside and makes a new one of what the manifests tell.",
            ) from error

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
        differs = difference(manifest.files, found)
        if differs:
            raise DigestMismatchError(
                str(path / differs[0]),
                f"{differs[1]}, so version {version} no longer is what was published",
                remedy="Push the payload again: it gets a new version.",
            )

    def read(self, version: int, path: Path) -> bytes | None:
        """A file of a version; None where there is none.

        Raises:
            StoreError: it cannot be read.
        """
        file = self.base_path / str(version) / path
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(str(file), f"cannot be read: {error.strerror or error}") from error

    def why_not_served(self, digest: str) -> str:
        """Why a server of the latest version does not load exactly the payload `digest`, or "" where it does.

        Reads every byte of the newest version. The answer is one sentence without a full stop.

        Raises:
            StoreError: as `versions`.
        """
        newest = self.newest()
        hiding = self.hides(newest)
        if hiding:
            return f"the entry {hiding!r} in {self.base_path} is what TF Serving takes for the latest version"
        if newest is None:
            return f"{self.base_path} holds no version"
        if not newest.digest:
            return f"the newest version in {self.base_path}, {newest.path.name}, was not published by this store"
        if newest.digest != digest:
            return f"the newest version in {self.base_path}, {newest.number}, holds other bytes"
        try:
            self._unchanged(newest.number)
        except StoreError as error:
            return f"version {newest.number} is damaged ({error.thing} {error.problem})"
        return ""

    def _unchanged(self, version: int) -> None:
        """What `why_not_served` goes by; raises as `verify`."""
        self.verify(version)

    def entries(self) -> list[tuple[int, str]]:
        """Number and name of everything that TF Serving takes for a version, largest first, `7` before `007`.

        Raises:
            StoreError: as `versions`.
        """
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

    def seen(self) -> list[tuple[int, str]]:
        """Number and name of all that TF Serving takes for a version, whatever it is; largest first."""
        return self.entries()

    def what_is(self, name: str) -> Literal["model", "file", "folder"]:
        """What an entry is: a payload, a plain file, or a directory without a model."""
        path = self.base_path / name
        if is_payload(path):
            return "model"
        return "file" if path.is_file() else "folder"

    def under_way(self) -> set[int]:
        """The versions that others are publishing now, as far as they are to be seen; on a disk they are not."""
        return set()

    def hides(self, newest: Version | None) -> str:
        """The name of an entry that TF Serving takes for the latest version, or may, instead of `newest`; or ""."""
        for number, name in self.entries():
            if newest is None or number > newest.number or (number == newest.number and name != newest.path.name):
                return name
        return ""

    def manifest_path(self, version: int) -> Path:
        """Where the manifest of a version stands."""
        return self.manifests / f"{version}.json"

    def numbers_with_manifest(self, folder: Path) -> list[int]:
        """The versions of which a folder holds manifests; none where there is no such folder.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                str(folder), f"cannot be read: {error.strerror}", expected="a folder of manifests"
            ) from error
        return [n for name in names if (n := version_number(name.removesuffix(".json"))) is not None]

    def all_manifests(self) -> list[Manifest]:
        """The manifests of all versions ever, those that were removed too, rising; damaged ones are left out."""
        found = {}
        for folder in (self.removed_manifests, self.manifests):
            for number in self.numbers_with_manifest(folder):
                try:
                    found[number] = read_manifest(folder / f"{number}.json", number)
                except (StoreError, FileNotFoundError):
                    continue
        return [found[number] for number in sorted(found)]

    def largest_noted(self) -> int | None:
        """The largest number ever used, as `state.json` says; None where there is no such file.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.inner / "state.json"
        try:
            return State.model_validate_json(path.read_bytes()).largest_version
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StoreError(
                str(path),
                f"cannot be read: {gist(error)}",
                expected='{"largest_version": NUMBER}',
                remedy="Remove it: the number is then taken from the manifests and directories.",
            ) from error

    def _manifest_or_none(self, version: int) -> Manifest | None:
        """The manifest; None where there is none or it is damaged, so that nothing vouches for the bytes."""
        try:
            return self.manifest(version)
        except StoreError:
            return None


def read_manifest(path: Path, version: int) -> Manifest:
    """A manifest of `version`, checked against itself.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        found = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValidationError) as error:
        raise StoreError(str(path), f"the manifest of version {version} cannot be read: {gist(error)}") from error
    if found.version != version or digest_of(found.files) != found.digest:
        raise StoreError(str(path), f"the manifest of version {version} contradicts itself: it was changed")
    return found


def difference(expected: Iterable[PayloadFile], found: Iterable[PayloadFile]) -> tuple[str, str] | None:
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


def is_payload(path: Path) -> bool:
    """True for a directory that a server could load as a version."""
    if _is_saved_model(path):
        return True
    try:
        return kind(path / TFLITE_NAME) == "tflite"
    except StoreError:
        return False


def _is_saved_model(path: Path) -> bool:
    try:
        return kind(path) == "saved_model"
    except StoreError:
        return False


def _has_sizes(path: Path, expected: Iterable[PayloadFile]) -> bool:
    try:
        return all((path / file.path).stat().st_size == file.size for file in expected)
    except OSError:
        return False
