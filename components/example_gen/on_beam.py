"""The work of ExampleGen as a Beam transform: a shard per element, wherever the engine has it done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter

from components.example_gen.ingest import Work
from schemas.errors import DataError, SatisficeError, from_record

__all__ = ["PIECE_ROWS", "WriteShards", "run_on"]

PIECE_ROWS = 262_144
"""What one element is, about: large enough that reading outweighs the engine's part, small enough for many workers."""

_NAMESPACE = "satisfice.example_gen"


class _WriteShard(beam.DoFn):
    """Makes one shard; gives its number of rows, or leaves a note of what is wrong with the data: no retry would help."""

    def process(self, work: Work) -> Iterator[int]:
        try:
            shard = work.do().shard
        except SatisficeError as error:
            _note(work).write_text(json.dumps(error.as_dict()), encoding="utf-8")
            return
        Metrics.counter(_NAMESPACE, "rows_in").inc(shard.rows_in)
        Metrics.counter(_NAMESPACE, "rows_out").inc(sum(shard.rows.values()))
        yield shard.rows_in


def _note(work: Work) -> Path:
    return work.folder.with_suffix(".fault")


class WriteShards(beam.PTransform):
    """`Work` to the number of rows of each shard. The workers share a file system with the process that publishes."""

    def expand(self, works: Any) -> Any:
        return works | beam.Reshuffle() | beam.ParDo(_WriteShard())


def run_on(pipeline: Any, works: Sequence[Work]) -> None:
    """Does the work on an engine, and compares the engine's counters.

    Args:
        pipeline: a new `beam.Pipeline`.
        works: what is to be done.

    Raises:
        DataError: what is wrong with the data, in the first file that has a fault; or rows in are not rows out.
    """
    if not works:
        return
    _ = pipeline | beam.Create(list(works)) | WriteShards()
    result = pipeline.run()
    result.wait_until_finish()
    for work in works:
        if _note(work).exists():
            raise from_record(json.loads(_note(work).read_text(encoding="utf-8")))
    counted = {
        name: result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE).with_name(name))["counters"]
        for name in ("rows_in", "rows_out")
    }
    rows_in, rows_out = (sum(one.result for one in counters) for counters in counted.values())
    if rows_in != rows_out or not rows_in:
        raise DataError(
            "ExampleGen on Beam",
            "the engine's counters differ",
            expected=f"{rows_in} rows out, as many as in",
            got=str(rows_out),
            remedy="Run again, or use another engine.",
        )
