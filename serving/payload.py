"""What a payload is, which bytes it is made of, and the digest that names it. Needs the standard library only.

A payload is either a SavedModel directory or one `.tflite` file. Its digest is the name by which it is measured, judged
and pushed; whoever holds the digest can tell whether the bytes in front of them are the ones that were measured.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import NotAPayloadError, StoreError

__all__ = [
    "FINGERPRINT",
    "TFLITE_NAME",
    "Kind",
    "PayloadFile",
    "digest",
    "digest_of",
    "files",
    "kind",
    "scan",
    "size_bytes",
]

Kind = Literal["saved_model", "tflite"]

FINGERPRINT = "fingerprint.pb"
"""At the top of a SavedModel; differs between identical trainings, so the digest leaves it out."""

TFLITE_NAME = "model.tflite"
"""The name a `.tflite` file goes by in its digest and in the version store, whatever the file itself is called."""

_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_EXPECTED = "a SavedModel directory or a .tflite file"


@dataclass(frozen=True, order=True)
class PayloadFile:
    """One file of a payload.

    Attributes:
        path: relative to the payload, with `/` between the parts; `model.tflite` for a `.tflite` file.
        size: in bytes.
        sha256: of the content, 64 hexadecimal digits.
    """

    path: str
    size: int
    sha256: str


def kind(path: str | os.PathLike[str]) -> Kind:
    """Whether `path` is a SavedModel directory or a `.tflite` file.

    Raises:
        NotAPayloadError: it is neither, or what makes it one is empty.
        StoreError: it cannot be looked at.
    """
    payload = Path(path)
    try:
        mode = payload.stat().st_mode
    except FileNotFoundError as error:
        raise NotAPayloadError(str(payload), "does not exist", expected=_EXPECTED) from error
    except OSError as error:
        raise _unreadable(payload, error) from error
    if stat.S_ISDIR(mode):
        return _kind_of_directory(payload)
    if not stat.S_ISREG(mode):
        raise NotAPayloadError(str(payload), "is neither a file nor a directory", expected=_EXPECTED)
    if payload.suffix != ".tflite":
        raise NotAPayloadError(str(payload), "is a file of another kind", expected="a name that ends in .tflite")
    return _unless_empty(payload, "tflite")


def files(path: str | os.PathLike[str]) -> tuple[PayloadFile, ...]:
    """Every file of the payload, `fingerprint.pb` included, sorted by path.

    A link to a file inside the payload counts as a file with that content. Empty directories hold no bytes and do
    not count.

    Raises:
        NotAPayloadError: `path` is no payload, or holds what cannot be shipped: a link out of it, a link to a
            directory, a socket or a device, a name that is not UTF-8.
        StoreError: a file cannot be read.
    """
    payload = Path(path)
    if kind(payload) == "tflite":
        return (_read(payload, TFLITE_NAME),)
    return scan(payload)


def scan(root: str | os.PathLike[str]) -> tuple[PayloadFile, ...]:
    """Every file below the directory `root`, whatever it holds, sorted by path; raises as `files` does."""
    top = Path(root)
    return tuple(_read(top / relative, relative) for relative in sorted(_relative_paths(top), key=os.fsencode))


def digest(path: str | os.PathLike[str]) -> str:
    """The name of the payload's bytes: 64 hexadecimal digits. Equal bytes give equal digests wherever they lie.

    Raises:
        NotAPayloadError, StoreError: as `files`.
    """
    return digest_of(files(path))


def digest_of(contents: Iterable[PayloadFile]) -> str:
    r"""The digest of a payload that consists of `contents`.

    SHA-256 over the lines `path NUL sha256 LF`, sorted by the bytes of the path, without the `fingerprint.pb` at the
    top. A path holds no NUL and a SHA-256 has a fixed length, so no two lists give the same lines.

    >>> digest_of([PayloadFile("fingerprint.pb", 1, "0" * 64)]) == digest_of([])
    True
    """
    lines = hashlib.sha256()
    for file in sorted(contents, key=lambda file: os.fsencode(file.path)):
        if file.path != FINGERPRINT:
            lines.update(os.fsencode(file.path) + b"\0" + file.sha256.encode("ascii") + b"\n")
    return lines.hexdigest()


def size_bytes(path: str | os.PathLike[str]) -> int:
    """The sum of the sizes of the payload's files, in bytes, without reading them.

    Raises:
        NotAPayloadError, StoreError: as `files`.
    """
    payload = Path(path)
    if kind(payload) == "tflite":
        return payload.stat().st_size
    return sum((payload / relative).stat().st_size for relative in _relative_paths(payload))


def _kind_of_directory(directory: Path) -> Kind:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise _unreadable(directory, error) from error
    graphs = [name for name in names if name in _GRAPHS]
    if not graphs:
        raise NotAPayloadError(
            str(directory),
            "is a directory without a SavedModel",
            expected="saved_model.pb or saved_model.pbtxt in it",
            got=", ".join(names[:5]) + (", …" if len(names) > 5 else "") or "nothing",
        )
    return _unless_empty(directory / graphs[0], "saved_model")


def _unless_empty(file: Path, found: Kind) -> Kind:
    if file.stat().st_size == 0:
        raise NotAPayloadError(str(file), "is empty", remedy="It was probably cut off while it was written.")
    return found


def _relative_paths(root: Path) -> Iterator[str]:
    """The files below `root`, as relative POSIX paths, in no order."""
    resolved = root.resolve()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(root / folder, error) from error
        for entry in entries:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(relative)
            else:
                _check_shippable(resolved, Path(entry.path), relative)
                yield relative


def _check_shippable(root: Path, path: Path, relative: str) -> None:
    """Refuse what would ship other bytes than those below `root`, or none at all."""
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotAPayloadError(repr(str(path)), "has a name that is not UTF-8", remedy="Rename it.") from error
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # unlike Path.resolve, gives an answer for a link to itself
        if not target.is_relative_to(root):
            raise NotAPayloadError(
                str(path), f"is a link that leaves the payload, to {target}", remedy="Put the file itself there."
            )
        if not target.exists():
            raise NotAPayloadError(str(path), f"is a link to nothing, {target}", remedy="Put the file itself there.")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise NotAPayloadError(str(path), "is a link to a directory", remedy="Put the directory itself there.")
    if not stat.S_ISREG(mode):
        raise NotAPayloadError(str(path), "is no regular file", expected="files and directories only")


def _read(path: Path, relative: str) -> PayloadFile:
    try:
        with path.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256")
            return PayloadFile(relative, handle.tell(), content.hexdigest())
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        str(path),
        f"cannot be read: {error.strerror or error}",
        remedy="Check its permissions and that it still exists.",
    )
