"""Rendered files onto the disk: each whole or not at all, all of them staged before the first is replaced."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import SatisficeError
from serving.deploy.render import File

__all__ = ["MANIFEST", "Written", "write"]

MANIFEST = "rendered.json"
"""Which files were rendered, with their digests: so that what someone edited is not overwritten."""

_STAGED = ".rendering-"


@dataclass(frozen=True)
class Written:
    """What was done.

    Attributes:
        written: paths of files that are new or changed.
        unchanged: that were the same already.
        removed: that an earlier rendering wrote and this one does not.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def write(files: Mapping[str, File], folder: Path, *, force: bool = False) -> Written:
    """Writes files into a folder, which may hold an earlier rendering and other files.

    Files are replaced one by one, by renames in the given order: the folders that are mounted somewhere stay the same,
    and a running server never reads half a file. What is the same already is not touched.

    Args:
        files: by path.
        folder: is made where it is not there.
        force: overwrites also what was edited, or is not of an earlier rendering.

    Raises:
        SatisficeError: a file was edited, or cannot be written; nothing was changed then but for what the message says.
    """
    before = _manifest(folder)
    found = {path: _digest_of(folder / path) for path in {*files, *before}}
    wanted = {path: _digest(file.text.encode()) for path, file in files.items()}
    changed = [path for path in files if found[path] != wanted[path] or _is_open(folder / path, files[path])]
    gone = sorted(path for path in before if path not in files and found[path])
    if not force:
        _refuse_edited(folder, [path for path in (*changed, *gone) if found[path] not in ("", before.get(path))])
    try:
        _replace(folder, {path: files[path] for path in changed})
        for path in gone:
            _remove(folder, path)
        _replace(folder, {MANIFEST: File(_manifest_text(wanted), "")})
    except OSError as error:
        raise SatisficeError(
            str(error.filename or folder),
            f"cannot be written: {error.strerror}",
            remedy="Files that were replaced before it are whole; render again.",
        ) from error
    unchanged = tuple(path for path in files if path not in changed)
    return Written(tuple(changed), unchanged, tuple(gone))


def _refuse_edited(folder: Path, edited: Iterable[str]) -> None:
    names = sorted(edited)
    if names:
        raise SatisficeError(
            str(folder),
            f"holds files that are not as they were rendered: {', '.join(names)}",
            expected="files of an earlier rendering, or none of these names",
            remedy="Put the change into the configuration and render with --force, or choose another folder."
            " Nothing was changed.",
        )


def _replace(folder: Path, files: Mapping[str, File]) -> None:
    """Stages all, then renames all."""
    staged: dict[str, Path] = {}
    try:
        for path, file in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            staged[path] = target.with_name(f"{_STAGED}{uuid.uuid4().hex}")
            _write_durably(staged[path], file)
        for path, source in staged.items():
            source.replace(folder / path)
    finally:
        for source in staged.values():
            source.unlink(missing_ok=True)
    for parent in {(folder / path).parent for path in files}:
        _sync(parent)


def _write_durably(path: Path, file: File) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(file))
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.text.encode())
        out.flush()
        os.fsync(out.fileno())


def _mode(file: File) -> int:
    return 0o600 if file.secret else 0o644


def _is_open(path: Path, file: File) -> bool:
    """True for a secret that others can read."""
    return file.secret and path.exists() and bool(path.stat().st_mode & 0o077)


def _remove(folder: Path, path: str) -> None:
    (folder / path).unlink(missing_ok=True)
    for parent in list((folder / path).relative_to(folder).parents)[:-1]:
        if not any((folder / parent).iterdir()):
            (folder / parent).rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _manifest(folder: Path) -> dict[str, str]:
    """Digest by path of the last rendering; empty where there was none."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())["files"]
        return {str(path): str(digest) for path, digest in found.items() if _is_inside(str(path))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_inside(path: str) -> bool:
    parts = Path(path).parts
    return bool(parts) and not Path(path).is_absolute() and ".." not in parts


def _manifest_text(digests: Mapping[str, str]) -> str:
    return json.dumps({"files": dict(sorted(digests.items()))}, indent=2) + "\n"


def _digest_of(path: Path) -> str:
    """Of what lies there; "" where nothing does."""
    try:
        return _digest(path.read_bytes())
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SatisficeError(str(path), f"cannot be read: {error.strerror}", expected="a file, or nothing") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
