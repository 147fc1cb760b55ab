"""Runs the nodes of a compiled pipeline one after another through TFX's portable launcher.

The launcher does not raise for every failure, and leaves no trace of a node that a condition skipped; so the state of
each node is read from ML Metadata after it was launched.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher

from components.lineage.reader import NodeRecord
from schemas.errors import find_cause, shorten

__all__ = ["NodeResult", "run_nodes"]

_CAUSE_SHOWN = 400


@dataclass(frozen=True)
class NodeResult:
    """How one node fared.

    Attributes:
        node: its id.
        state: `ran`, `cached`, `skipped` or `failed`.
        seconds: wall time of the launch, imports and all.
        reason: why it was skipped or failed; else "".
        record: of the lineage; None where it left none.
        error: what it raised, where it did.
    """

    node: str
    state: str
    seconds: float
    reason: str = ""
    record: NodeRecord | None = None
    error: Exception | None = field(default=None, repr=False, compare=False)


def run_nodes(
    pipeline: Any,
    read_node: Callable[[str], NodeRecord | None],
    on_start: Callable[[str], None],
    on_end: Callable[[NodeResult], None],
) -> list[NodeResult]:
    """Launches every node whose upstream nodes allow it.

    Args:
        pipeline: compiled IR, its run id filled in, nodes in topological order.
        read_node: reads what the lineage of this run holds of a node.
        on_start, on_end: told of each node.

    Returns:
        One result per node. A failed node keeps those that need it from running, and no others.
    """
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    results: dict[str, NodeResult] = {}
    for entry in pipeline.nodes:
        node = entry.pipeline_node
        name = node.node_info.id
        on_start(name)
        reason = _why_not(node.upstream_nodes, results)
        result = NodeResult(name, "skipped", 0.0, reason) if reason else _launch(pipeline, deployment, node, read_node)
        results[name] = result
        on_end(result)
    return list(results.values())


def _why_not(upstream: Iterable[str], results: dict[str, NodeResult]) -> str:
    """Why a node cannot run: the node upstream that failed or was skipped first, or "" where all is well."""
    for name in upstream:
        above = results.get(name)
        if above is None or above.state in ("ran", "cached"):
            continue
        if above.state == "failed":
            return f"needs {name}, which failed"
        return above.reason
    return ""


def _launch(pipeline: Any, deployment: Any, node: Any, read_node: Callable[[str], NodeRecord | None]) -> NodeResult:
    name = node.node_info.id
    connection = getattr(
        deployment.metadata_connection_config, deployment.metadata_connection_config.WhichOneof("connection_config")
    )
    started = time.monotonic()
    error: Exception | None = None
    try:
        launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        ).launch()
    except Exception as raised:  # noqa: BLE001 - whatever user code raises in a node is the node's failure
        error = raised
        traceback.print_exception(raised)  # TFX keeps it to itself; standard error is the run's log
    seconds = time.monotonic() - started
    record = read_node(name)
    if error is not None:
        return NodeResult(name, "failed", seconds, cause_of(error), record, error)
    if record is None:
        return NodeResult(name, "skipped", seconds, "its condition is not met", None)
    if record.state in ("ran", "cached"):
        return NodeResult(name, record.state, seconds, "", record)
    return NodeResult(name, "failed", seconds, "its inputs could not be resolved", record)


def cause_of(error: BaseException) -> str:
    """What went wrong, in one message: ours where one is in the chain of causes, else the foreign one's first lines."""
    ours = find_cause(error)
    if ours is not None:
        return str(ours)
    text = " ".join(str(error).split())
    return shorten(f"{type(error).__name__}: {text}", _CAUSE_SHOWN)
