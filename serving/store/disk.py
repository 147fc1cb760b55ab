"""The calls that change the disk, and what their errors mean to a person."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import StoreError

__all__ = ["FileSystem", "explained", "gist", "read_chunks"]

_CHUNK_BYTES = 1 << 20
_UNTOUCHED = "Nothing was published; earlier versions are untouched."
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


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

    def claim(self, source: Path, target: Path) -> None:
        """Give a file another name in one step, unless the name is taken; so on network file systems too.

        A file system without hard links keeps the first part of the promise through an exclusive create.

        Raises:
            FileExistsError: the name is taken.
        """
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            source.rename(target)
        else:
            source.unlink()

    def remove(self, path: Path) -> None:
        """Remove a file, or a directory with all it holds."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file, a mebibyte at a time."""
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            yield chunk


@contextmanager
def explained(base_path: Path, act: str, remedy: str = "", outcome: str = _UNTOUCHED) -> Iterator[None]:
    """Turn an error of the operating system into one that says what was tried, where, and what to do.

    Args:
        base_path: that it concerns.
        act: what is tried.
        remedy: what to do; "" for what follows from the error, and then `outcome`.
        outcome: how things stand after the error.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            str(error.filename or base_path),
            f"could not {act}: {error.strerror or error}",
            remedy=remedy or f"{_remedy(error, base_path)} {outcome}",
        ) from error


def _remedy(error: OSError, base_path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free space on its file system, then try again."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Give this user write permission to the base path and everything in it, then try again."
    if error.errno == errno.EROFS:
        return "Mount it writable, or set another base_path under push."
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return f"Somebody removed or moved {base_path}, or a part of it, meanwhile: find out who, then try again."
    return "Mend that, then try again."


def gist(error: Exception) -> str:
    """The gist of a foreign error, on one line."""
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return getattr(error, "strerror", None) or str(error)
