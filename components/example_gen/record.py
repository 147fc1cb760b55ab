"""What an artifact of examples tells of the spans that it was made of: `spans.json`, beside the rows.

It tells what the artifact holds, and not which of it was read and which taken over: equal data make equal artifacts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from components.example_gen.shards import FileRows
from components.example_gen.spans import Span, Window
from schemas.errors import DataError

__all__ = ["RECORD_FILE", "SpanRecord", "SpanRows", "record_of", "spans_read", "write_record"]

RECORD_FILE = "spans.json"


@dataclass(frozen=True)
class SpanRows:
    """The rows of a span.

    Attributes:
        span: its number.
        name: as a person writes it.
        version: None where the path has no versions.
        files: how many.
        rows_in: rows of the files.
        rows: of each split; together as many.
    """

    span: int
    name: str
    version: int | None
    files: int
    rows_in: int
    rows: dict[str, int]


@dataclass(frozen=True)
class SpanRecord:
    """All spans of an artifact.

    Attributes:
        spans: ascending.
        missing: spans within the window of which there were no data.
        short: how many spans the window lacked before the first one that there was.
    """

    spans: tuple[SpanRows, ...]
    missing: tuple[str, ...]
    short: int


def record_of(window: Window, files: Mapping[Path, FileRows]) -> SpanRecord:
    """The record of a window whose files were ingested.

    Raises:
        DataError: of some span other rows came out than went in.
    """
    return SpanRecord(tuple(_rows(span, files) for span in window.spans), window.missing_names, window.short)


def _rows(span: Span, files: Mapping[Path, FileRows]) -> SpanRows:
    counted = [files[file] for file in span.files]
    rows: Counter[str] = Counter()
    for one in counted:
        rows.update(one.rows)
    rows_in = sum(one.rows_in for one in counted)
    if rows.total() != rows_in:
        raise DataError(
            f"span {span.name}",
            "other rows came out than went in",
            expected=f"{rows_in} rows",
            got=str(rows.total()),
            remedy="Run again with --from ExampleGen.",
        )
    return SpanRows(span.number, span.name, span.version, len(counted), rows_in, dict(rows))


def spans_read(window: Window, files: Mapping[Path, FileRows]) -> str:
    """The spans of which something was read and not taken over from an earlier artifact, in words."""
    read = [span.name for span in window.spans if any(files[file].rows_read for file in span.files)]
    return ", ".join(read)


def write_record(record: SpanRecord, folder: Path) -> None:
    """Writes the record into the folder of its artifact."""
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
