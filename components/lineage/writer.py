"""Writes what TFX does not record: each run as a whole, with its configuration, its outcome and what was skipped."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from components.lineage.reader import RUN_TYPE

__all__ = ["close_run", "open_run", "put_in_run", "user_and_host"]


def open_run(
    store: Any, run_id: str, started_ms: int, pipeline: str, config_json: str, config_digest: str, runner: str
) -> int:
    """Records that a run has begun, with the configuration that it was given.

    Args:
        store: the metadata store.
        run_id: name of the run.
        started_ms: when it began, in milliseconds since the epoch.
        pipeline: name of the pipeline.
        config_json, config_digest: the resolved configuration and its digest.
        runner: what runs it.

    Returns:
        The id of the execution that stands for the run.
    """
    execution_type = metadata_store_pb2.ExecutionType(name=RUN_TYPE)
    type_id = store.put_execution_type(execution_type, can_add_fields=True)
    execution = store.get_execution_by_type_and_name(RUN_TYPE, run_id)
    if execution is None:
        execution = metadata_store_pb2.Execution(type_id=type_id, name=run_id)
    for ending in ("outcome", "exit_code", "error"):  # of the attempt that is resumed
        if ending in execution.custom_properties:
            del execution.custom_properties[ending]
    execution.last_known_state = metadata_store_pb2.Execution.RUNNING
    _set(
        execution,
        {
            "pipeline": pipeline,
            "started_ms": started_ms,
            "config": config_json,
            "config_digest": config_digest,
            "runner": runner,
            "user": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        },
    )
    (execution_id,) = store.put_executions([execution])
    return int(execution_id)


def close_run(
    store: Any,
    execution_id: int,
    outcome: str,
    exit_code: int,
    nodes: Sequence[Mapping[str, Any]],
    error: str = "",
    spans: Mapping[str, str] | None = None,
) -> None:
    """Records how a run ended.

    Args:
        store: the metadata store.
        execution_id: from `open_run`.
        outcome: `pushed`, `already_served`, `blocked`, `data_blocked`, `pending` or `failed`.
        exit_code: of the command.
        nodes: one mapping per node: id, state, seconds, reason; where they are known, `peak_memory_mb` and `progress`.
        error: the message, where it failed.
        spans: of the data, as `Lineage.spans` gives them.
    """
    (execution,) = store.get_executions_by_id([execution_id])
    states = metadata_store_pb2.Execution
    execution.last_known_state = states.FAILED if outcome == "failed" else states.COMPLETE
    _set(execution, {"outcome": outcome, "exit_code": exit_code, "nodes": json.dumps(nodes), "error": error})
    _set(execution, dict(spans or {}))
    store.put_executions([execution])


def put_in_run(
    store: Any,
    execution: Any,
    place: tuple[str, str, str],
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
) -> Any:
    """Writes an execution into a run, with events; returns it, with its id. New artifacts get theirs.

    Args:
        store: the metadata store.
        execution: an `ml_metadata` Execution.
        place: names of the pipeline, the run and the node.
        inputs, outputs: key to an `ml_metadata` Artifact.
    """
    pipeline, run_id, node = place
    names = {"pipeline": pipeline, "pipeline_run": run_id, "node": f"{pipeline}.{node}"}
    contexts = []
    for kind, name in names.items():
        type_id = store.put_context_type(
            metadata_store_pb2.ContextType(name=kind), can_add_fields=True, can_omit_fields=True
        )
        contexts.append(metadata_store_pb2.Context(type_id=type_id, name=name))
    pairs = []
    for given, event_type in ((inputs, metadata_store_pb2.Event.INPUT), (outputs, metadata_store_pb2.Event.OUTPUT)):
        for key, artifact in (given or {}).items():
            event = metadata_store_pb2.Event(type=event_type)
            event.path.steps.add(key=key)
            event.path.steps.add(index=0)
            pairs.append((artifact, event))
    execution.id, artifact_ids, _ = store.put_execution(
        execution=execution, artifact_and_events=pairs, contexts=contexts, reuse_context_if_already_exist=True
    )
    for (artifact, _), artifact_id in zip(pairs, artifact_ids, strict=True):
        artifact.id = artifact_id
    return execution


def user_and_host() -> str:
    """Who runs this process, and where: `user@host`."""
    return f"{_user()}@{socket.gethostname()}"


def _set(execution: Any, values: Mapping[str, str | int]) -> None:
    for key, value in values.items():
        if isinstance(value, int):
            execution.custom_properties[key].int_value = value
        else:
            execution.custom_properties[key].string_value = value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user id, as in a container
        return str(os.getuid())
