"""The ticks of the schedule in the lineage: written and read back. Imports ml_metadata only.

Each is an execution of type `satisfice.Tick`, which is RUNNING until the run that came of it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from components.lineage.reader import RECORD_PROPERTY
from schemas.tick import Tick

__all__ = ["TICK_TYPE", "newest_first", "put_tick", "ticks"]

TICK_TYPE = "satisfice.Tick"
_Execution = metadata_store_pb2.Execution


def put_tick(store: Any, pipeline: str, tick: Tick, execution_id: int | None = None) -> int:
    """Records a tick, or how one ended.

    Args:
        store: the metadata store.
        pipeline: its name.
        tick: the record.
        execution_id: of the tick that has ended; None for a new one.

    Returns:
        The id of its execution.
    """
    type_id = store.put_execution_type(metadata_store_pb2.ExecutionType(name=TICK_TYPE), can_add_fields=True)
    execution = _Execution(type_id=type_id)
    if execution_id is not None:
        (execution,) = store.get_executions_by_id([execution_id])
    execution.last_known_state = _Execution.COMPLETE if tick.ended else _Execution.RUNNING
    texts = {"pipeline": pipeline, "verdict": tick.decision.verdict, "run": tick.run}
    for key, value in {**texts, RECORD_PROPERTY: tick.model_dump_json()}.items():
        execution.custom_properties[key].string_value = value
    (found,) = store.put_executions([execution])
    return int(found)


def ticks(store: Any, pipeline: str) -> list[Tick]:
    """Every tick of a pipeline, the newest first."""
    return list(newest_first(store, pipeline))


def newest_first(store: Any, pipeline: str) -> Iterator[Tick]:
    """The same, of which only those are read that are asked for."""
    for one in sorted(store.get_executions_by_type(TICK_TYPE), key=lambda one: int(one.id), reverse=True):
        if one.custom_properties["pipeline"].string_value == pipeline:
            yield Tick.model_validate_json(one.custom_properties[RECORD_PROPERTY].string_value)
