"""The names below a base path, as TF Serving reads them and as the store gives them."""

from __future__ import annotations

import re

__all__ = ["ASIDE", "INNER", "LARGEST_INT64", "STAGING", "TRASH", "trashed_version", "version_number"]

INNER = ".satisfice"
"""The folder below a base path that holds what is no version."""

STAGING = ".staging-"
TRASH = ".trash-"
"""Beginnings of the names of a publish under way and of a version that is being removed."""

ASIDE = "aside"
"""The folder in `INNER` into which a repair moves what does not belong in a base path."""

LARGEST_INT64 = 2**63 - 1

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")


def version_number(name: str) -> int | None:
    """The version that TF Serving takes an entry of a base path for, or None where it skips the entry.

    It reads names with `absl::SimpleAtoi<int64>`: leading zeros, a sign and blanks around the digits do parse.

    >>> version_number("7"), version_number("007"), version_number(" +7"), version_number("7.tmp")
    (7, 7, 7, None)
    """
    match = _INTEGER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -LARGEST_INT64 - 1 <= number <= LARGEST_INT64 else None


def trashed_version(name: str) -> int | None:
    """The number of the version that an entry of a base path was before it was removed, or None.

    >>> trashed_version(".trash-7-0a1b"), trashed_version("7")
    (7, None)
    """
    return version_number(name.removeprefix(TRASH).partition("-")[0]) if name.startswith(TRASH) else None
