"""What files hold, in one short text, and whether they have changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.code import code_fingerprint
from components.example_gen.source_files import find_files
from components.example_gen.spans import Window, window_of
from schemas.config import SourceConfig
from schemas.errors import DataError

__all__ = ["Snapshot", "code_of_ingest", "content_fingerprint", "identity_of"]


def code_of_ingest() -> str:
    """Fingerprint of the code that makes examples of files."""
    return code_fingerprint("components.example_gen", "schemas")


def content_fingerprint(files: Sequence[Path]) -> str:
    """SHA-256, in hex, over the names of the files and the SHA-256 of their contents, sorted by name.

    Neither the folder nor any time enters: the same files elsewhere have the same fingerprint.
    """
    return _fingerprint([(file.name, _digest(file)) for file in files])


def identity_of(source: SourceConfig) -> dict[str, str | int]:
    """What a source holds now, in the words of the node's parameters and of the artifact's properties.

    Returns:
        `input_fingerprint` of the files; `span` and `version` as stock TFX has them, those of the newest span, or span 0 of
        a path without spans. Where it has spans, `spans` lists all that are read, and `missing_spans` those that are not
        there: so a new version, or a span that arrived late, is read though its bytes may have been seen before.

    Raises:
        DataError: as `components.example_gen.spans.files_of`.
    """
    found = window_of(source)
    if found is None:
        return {"input_fingerprint": content_fingerprint(find_files(source.path)), "span": 0}
    version = found.newest.version
    return {
        "input_fingerprint": content_fingerprint(found.files),
        "span": found.newest.number,
        **({"version": version} if version is not None else {}),
        **words_of(found),
    }


def words_of(window: Window) -> dict[str, str | int]:
    """Which spans a window has, and which it lacks, for a person too."""
    return {"spans": str(window), "missing_spans": ", ".join(window.missing_names), "short_spans": window.short}


@dataclass(frozen=True)
class Snapshot:
    """Files as they were when they were looked at.

    Attributes:
        digests: SHA-256 of the content of each, in hex.
    """

    digests: dict[Path, str]
    _states: dict[Path, tuple[int, ...]]

    @classmethod
    def of(cls, files: Sequence[Path]) -> Snapshot:
        """Reads the files once.

        Raises:
            DataError: a file changes meanwhile.
        """
        states = {file: _state(file) for file in files}
        snapshot = cls({file: _digest(file) for file in files}, states)
        for file in files:
            snapshot.check(file)
        return snapshot

    @property
    def fingerprint(self) -> str:
        """As `content_fingerprint`."""
        return _fingerprint([(file.name, digest) for file, digest in self.digests.items()])

    def check(self, file: Path) -> None:
        """Makes sure that a file is as it was, by its identity, size and times.

        Raises:
            DataError: it is not.
        """
        if _state(file) != self._states[file]:
            raise DataError(str(file), "has changed while it was read", remedy=_REMEDY)

    def check_fingerprint(self, expected: str) -> None:
        """Makes sure that these are the files with which the run began.

        Raises:
            DataError: they are not; names the one that was changed last.
        """
        if self.fingerprint != expected:
            newest = max(self._states, key=lambda file: self._states[file][-1:])
            problem = "the files are not those with which the run began; this one was changed last"
            raise DataError(str(newest), problem, remedy=_REMEDY)


_REMEDY = "Run again once nothing writes to the files of data.source.path; move finished files into place."


def _fingerprint(entries: list[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _state(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
