"""`RESULTS.md`: each benchmark owns the section between its two markers and rewrites that alone."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FILE", "machine", "table", "write_section"]

FILE = Path(__file__).with_name("RESULTS.md")


def write_section(name: str, text: str, file: Path = FILE) -> None:
    """Puts text between the markers of a section; adds the section at the end where there is none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = file.read_text(encoding="utf-8") if file.is_file() else "# Results\n"
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + section + rest.split(end, 1)[1]
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    file.write_text(new, encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Where and when a figure was measured, in one line."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
