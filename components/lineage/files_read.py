"""Which files an Examples artifact was made of, as a property of it. Imports nothing but the standard library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FILES_PROPERTY", "FilesRead", "files_record"]

FILES_PROPERTY = "files"


def files_record(digests: Mapping[Path, str]) -> str:
    """The value of the property.

    Args:
        digests: SHA-256 of each file's content, in hex.
    """
    return json.dumps({str(path): digest for path, digest in digests.items()})


@dataclass(frozen=True)
class FilesRead:
    """The files of which examples were made.

    Attributes:
        digests: by path, SHA-256 of the content.
    """

    digests: Mapping[Path, str]

    @classmethod
    def of(cls, record: str) -> FilesRead | None:
        """What `files_record` wrote; None where it says nothing, as of examples that were made before it was written."""
        return cls({Path(path): digest for path, digest in json.loads(record).items()}) if record else None

    @property
    def contents(self) -> frozenset[str]:
        """Digests of the contents that were read."""
        return frozenset(self.digests.values())
