"""One run of a pipeline, from a configuration to an outcome that is recorded in the lineage."""

from __future__ import annotations

import datetime
import os
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from schemas.decision import DataDecision, Decision, PushResult
from schemas.errors import ConfigError, Fault, NodeFailedError
from schemas.load import LoadedConfig

__all__ = ["EXIT_CODES", "Outcome", "RunResult", "Watcher", "default_root", "new_run_id", "run"]

Outcome = Literal["pushed", "already_served", "blocked", "data_blocked", "failed"]

EXIT_CODES: dict[Outcome, int] = {"pushed": 0, "already_served": 0, "blocked": 3, "data_blocked": 3, "failed": 1}

Runner = Literal["local", "tfx-local"]


class Watcher(Protocol):
    """Is told what happens while a run goes on."""

    def node_started(self, node: str) -> None:
        """A node is about to be launched."""

    def node_ended(self, result: Any) -> None:
        """A node has ended; `result` is a `runners.local.engine.NodeResult`."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: its name.
        outcome: in one word.
        nodes: one `runners.local.engine.NodeResult` per node.
        decision: the Gate's, where it was reached.
        data_decision: the data gate's, where it was reached.
        push: what the Pusher did, where it was reached.
        error: the failure, where a node failed.
        log: file with the noise of the run.
    """

    run_id: str
    outcome: Outcome
    nodes: list[Any]
    decision: Decision | None
    data_decision: DataDecision | None
    push: PushResult | None
    log: Path
    error: NodeFailedError | None = field(default=None)

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return EXIT_CODES[self.outcome]


def default_root(loaded: LoadedConfig) -> Path:
    """The pipeline root of a configuration: `pipelines/NAME` beside it."""
    return loaded.folder / "pipelines" / loaded.config.name


def new_run_id() -> str:
    """A run id that sorts by time (UTC) and is not given twice."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def run(
    loaded: LoadedConfig, root: Path, run_id: str, log: Path, watcher: Watcher, runner: Runner = "local"
) -> RunResult:
    """Checks, builds and runs a pipeline, and records the run.

    Args:
        loaded: the configuration.
        root: pipeline root.
        run_id: from `new_run_id`.
        log: where the noise goes, for messages; the caller has redirected it.
        watcher: is told of each node.
        runner: `local`, or `tfx-local` for TFX's own LocalDagRunner.

    Raises:
        ConfigError: the configuration does not fit the world, or the root another store's; nothing has run.
        RootLockedError: another run holds the root.
        MetadataError: the store cannot be opened.
    """
    # TensorFlow is imported from here on, which takes seconds; whoever imports this module does not pay for it.
    from components.lineage import writer
    from components.lineage.reader import Lineage
    from components.lineage.store import connection_config, open_store
    from pipeline.check import check
    from runners.local.lock import exclusive

    config = loaded.config
    started_ms = time.time_ns() // 1_000_000
    module = check(loaded, root)
    with exclusive(root):
        store = open_store(config.metadata)
        _refuse_foreign_root(store, root, loaded)
        from pipeline.pipeline import create_pipeline

        pipeline = create_pipeline(config, module, str(root), connection_config(config.metadata))
        execution = writer.open_run(
            store, run_id, started_ms, config.name, config.model_dump_json(by_alias=True), loaded.digest, runner
        )
        lineage = Lineage(config.metadata, config.name, store)
        try:
            nodes = _RUNNERS[runner](pipeline, run_id, lineage, watcher)
        except BaseException as error:
            writer.close_run(store, execution, "failed", 1, [], f"{type(error).__name__}: {error}")
            raise
        result = _result(run_id, nodes, lineage, loaded, log)
        records = [
            {"node": one.node, "state": one.state, "seconds": round(one.seconds, 3), "reason": one.reason}
            for one in nodes
        ]
        writer.close_run(store, execution, result.outcome, result.exit_code, records, str(result.error or ""))
    return result


def _refuse_foreign_root(store: Any, root: Path, loaded: LoadedConfig) -> None:
    """Keeps a new store, which numbers its artifacts from 1, from writing over those of an earlier one."""
    from ml_metadata.metadata_store import ListOptions

    if store.get_executions(ListOptions(limit=1)):
        return
    if any(entry.is_dir() and entry.name != "logs" and not entry.name.startswith(".") for entry in root.iterdir()):
        fault = Fault(
            "(pipeline root)",
            "holds artifacts of which the metadata store knows nothing",
            "the store in which they were recorded, or another root (--root DIR)",
            str(root),
        )
        raise ConfigError(str(loaded.file), [fault])


def _run_local(pipeline: Any, run_id: str, lineage: Any, watcher: Watcher) -> list[Any]:
    from runners.local.engine import run_nodes

    return run_nodes(
        _compile(pipeline, run_id), lambda node: lineage.node(run_id, node), watcher.node_started, watcher.node_ended
    )


def _run_tfx_local(pipeline: Any, run_id: str, lineage: Any, watcher: Watcher) -> list[Any]:
    """TFX's LocalDagRunner on the same graph. It tells of nothing while it runs, so the nodes are told of at the end."""
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from runners.local.engine import NodeResult, cause_of

    compiled = _compile(pipeline, run_id)
    names = [entry.pipeline_node.node_info.id for entry in compiled.nodes]
    raised: Exception | None = None
    try:
        LocalDagRunner().run_with_ir(compiled)
    except Exception as error:  # noqa: BLE001 - whatever user code raises in a node is the node's failure
        raised = error
        traceback.print_exception(raised)  # as the local engine does
    failure = cause_of(raised) if raised else ""
    results = []
    for name in names:
        record = lineage.node(run_id, name)
        if record is None:
            reason = "an earlier node failed" if failure else "its condition is not met"
            result = NodeResult(name, "skipped", 0.0, reason)
        else:
            ok = record.state in ("ran", "cached")
            reason = "" if ok else failure or "its inputs could not be resolved"
            cause = None if ok else raised
            result = NodeResult(name, record.state if ok else "failed", record.seconds, reason, record, cause)
        watcher.node_ended(result)
        results.append(result)
    return results


_RUNNERS: dict[Runner, Callable[[Any, str, Any, Watcher], list[Any]]] = {
    "local": _run_local,
    "tfx-local": _run_tfx_local,
}


def _compile(pipeline: Any, run_id: str) -> Any:
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.portable import runtime_parameter_utils

    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return compiled


def _result(run_id: str, nodes: list[Any], lineage: Any, loaded: LoadedConfig, log: Path) -> RunResult:
    failed = [one for one in nodes if one.state == "failed"]
    decision, push = lineage.decision(run_id), lineage.push_result(run_id)
    data_decision = lineage.data_decision(run_id)
    error = None
    outcome: Outcome
    if failed:
        outcome, error = "failed", _failure(failed[0], loaded, log)
    elif data_decision and data_decision.outcome == "block":
        outcome = "data_blocked"
    elif push is None or decision is None:
        outcome, error = "failed", NodeFailedError(
            "the run", "ended without a decision", remedy=f"The log is {log}."
        )  # fmt: skip
    elif push.outcome == "not_pushed":
        outcome = "blocked"
    else:
        outcome = push.outcome
    return RunResult(run_id, outcome, nodes, decision, data_decision, push, log, error)


def _failure(node: Any, loaded: LoadedConfig, log: Path) -> NodeFailedError:
    file = os.path.relpath(loaded.file)
    failure = NodeFailedError(
        f"node {node.node}",
        node.reason,
        remedy=f"The log is {log}. What had finished is kept: `satisfice run {file}` goes on from there.",
    )
    failure.__cause__ = node.error
    return failure
