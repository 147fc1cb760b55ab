"""Which files a source names, how one is opened, and the parts in which it can be read."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import DataError, MissingColumnError, close_match

__all__ = ["BATCH_ROWS", "Piece", "find_files", "missing_columns", "no_rows", "open_file", "unreadable"]

BATCH_ROWS = 65_536
"""Rows that are held at a time, where a format lets them be counted before they are read."""


@dataclass(frozen=True)
class Piece:
    """A part of a file that can be read without the others.

    Attributes:
        start: index of its first row group (Parquet) or record batch (Arrow).
        stop: index after its last one; None for all that follow.
    """

    start: int = 0
    stop: int | None = None


def find_files(pattern: str) -> list[Path]:
    """The files that match a glob pattern (`*`, `?`, `[..]`, `**`), sorted by path.

    Raises:
        DataError: none matches, or one of them cannot be opened.
    """
    files = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if not os.path.isdir(match))
    if not files:
        if os.path.isdir(pattern):
            remedy = f"It is a folder: set data.source.path to {os.path.join(pattern, '*')!r} or the like."
        else:
            remedy = "Check data.source.path; a relative path is relative to the configuration file."
        raise DataError(pattern, "matches no file", remedy=remedy)
    for file in files:
        with open_file(file):
            pass
    return files


def open_file(file: Path) -> io.FileIO:
    """The file's bytes.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return file.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: OSError) -> DataError:
    """The fault of a file that cannot be read."""
    problem = f"cannot be read ({error.strerror or error})"
    return DataError(str(file), problem, remedy="Check that it exists and may be read, or narrow data.source.path.")


def no_rows(file: Path) -> DataError:
    """The fault of a file without rows."""
    return DataError(
        str(file), "has no rows", remedy="Fill the file, or narrow data.source.path so that it is left out."
    )


def missing_columns(file: Path, names: Sequence[str], missing: Sequence[str]) -> MissingColumnError:
    """The fault of a file with columns `names` that lacks others of the schema."""
    listed = ", ".join(repr(name) for name in missing[:5]) + (", …" if len(missing) > 5 else "")
    problem = f"lacks the column{'s' if len(missing) > 1 else ''} {listed} of the schema"
    guess = close_match(missing[0], names)
    if guess:
        remedy = f"Did you mean its column {guess!r}? Rename it in the file or in the schema."
    elif len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        remedy = "Its header is one cell: separate the cells by commas."
    else:
        remedy = "Add the column to the file, or take it out of the schema."
    return MissingColumnError(str(file), problem, got=f"the columns {', '.join(names)}", remedy=remedy)
