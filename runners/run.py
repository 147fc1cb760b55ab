"""One run of a pipeline, from a configuration to an outcome that is recorded in the lineage."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from schemas.decision import DataDecision, Decision, PushResult
from schemas.errors import ConfigError, Fault, MetadataError, NodeFailedError
from schemas.load import LoadedConfig

if TYPE_CHECKING:
    from runners.local.workers import Workers

__all__ = [
    "EXIT_CODES",
    "Beginning",
    "Options",
    "Outcome",
    "RunResult",
    "Watcher",
    "begin",
    "default_root",
    "explain",
    "new_run_id",
    "outcome_of",
    "run",
]

Outcome = Literal["pushed", "already_served", "blocked", "data_blocked", "pending", "failed"]

EXIT_CODES: dict[Outcome, int] = {
    "pushed": 0,
    "already_served": 0,
    "blocked": 3,
    "data_blocked": 3,
    "pending": 4,
    "failed": 1,
}

Runner = Literal["local", "tfx-local"]

_ANNOUNCED = ".beginning"


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


@dataclass(frozen=True)
class Options:
    """How a run is made.

    Attributes:
        runner: `local`, or `tfx-local` for TFX's own LocalDagRunner.
        overrides: as `--set` took them.
        resumed: goes on with a run that was cut off or failed, and keeps what it had finished.
        from_node: id of the node from which on everything has to run; "" for none.
        command: what a person would type to run it again, for messages.
        accept_without_champion: why a candidate is accepted that cannot be compared with the champion; "" where it is not.
    """

    runner: Runner = "local"
    overrides: tuple[str, ...] = ()
    resumed: bool = False
    from_node: str = ""
    command: str = "satisfice run"
    accept_without_champion: str = ""


def run(
    loaded: LoadedConfig, root: Path, run_id: str, log: Path, watcher: Watcher, options: Options | None = None
) -> RunResult:
    """Checks, builds and runs a pipeline, and records the run.

    Args:
        loaded: the configuration.
        root: pipeline root.
        run_id: from `new_run_id`, or of the run to resume.
        log: where the noise goes, for messages; the caller has redirected it.
        watcher: is told of each node.
        options: how.

    Raises:
        ConfigError: the configuration does not fit the world, or the root another store's; nothing has run.
        RootLockedError: another run holds the root.
        MetadataError: the store cannot be opened.
    """
    from runners.local.lock import exclusive
    from runners.local.workers import started_early

    options, config = options or Options(), loaded.config
    started_ms = time.time_ns() // 1_000_000
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(started_early(root, run_id, loaded.folder)) if options.runner == "local" else None
        from components.lineage import writer
        from components.lineage.reader import Lineage
        from components.lineage.store import open_store

        module = _checked(loaded, root, options)
        stack.enter_context(exclusive(root))
        with _announced(root, run_id):
            store = open_store(config.metadata)
            _refuse_foreign_root(store, root, loaded)
            lineage = Lineage(config.metadata, config.name, store)
            _record_missed_rollbacks(store, loaded)
            prepare = _prepared_tfx_local if options.runner == "tfx-local" else _prepared_local
            job = _Job(loaded, module, root, run_id, store, lineage, options, workers)
            run_nodes = stack.enter_context(prepare(job))
            description = config.model_dump_json(by_alias=True)
            execution = writer.open_run(
                store, run_id, started_ms, config.name, description, loaded.digest, options.runner
            )
        try:
            nodes = run_nodes(watcher)
            result = _result(run_id, nodes, lineage, options, log)
        except BaseException as raised:
            writer.close_run(store, execution, "failed", 1, [], _ended_by(raised))
            raise
        records = [_node_record(one) for one in nodes]
        error = str(result.error or "")
        writer.close_run(store, execution, result.outcome, result.exit_code, records, error, lineage.spans(run_id))
    return result


def _ended_by(raised: BaseException) -> str:
    """What ended a run before its time, for whoever reads of it later."""
    if isinstance(raised, KeyboardInterrupt):
        return "interrupted by whoever started it (Ctrl-C)"
    if isinstance(raised, SystemExit):
        asked = raised.code == 128 + signal.SIGTERM
        return "told to end (SIGTERM)" if asked else "ended: whoever read its output has closed it"
    return f"{type(raised).__name__}: {raised}"


def explain(loaded: LoadedConfig, root: Path, run_id: str, options: Options) -> list[Any]:
    """What a run would do with each node, and why: a list of `runners.local.engine.Plan`. Nothing is recorded.

    Raises:
        ConfigError: as `run`.
    """
    from components.lineage.reader import Lineage
    from components.lineage.store import open_store
    from runners.local.lock import exclusive

    module = _checked(loaded, root, options)
    config = loaded.config
    with exclusive(root):
        store = open_store(config.metadata)
        lineage = Lineage(config.metadata, config.name, store)
        with _session(_Job(loaded, module, root, run_id, store, lineage, options)) as session:
            plans: list[Any] = session.explain()
            return plans


@dataclass(frozen=True)
class Beginning:
    """The run that is about to begin.

    Attributes:
        run_id: new, or of the run that is resumed.
        options: for the run.
        note: why a run that was to be resumed is a new one after all, which reuses what had finished; else "".
    """

    run_id: str
    options: Options
    note: str = ""


def begin(loaded: LoadedConfig, root: Path, options: Options) -> Beginning:
    """A new run; with `--resume` the newest one, if it was cut off or failed with this very configuration.

    What it had finished is kept as it stands if nothing of which it was made has changed. Otherwise the run becomes a
    new one, which reuses each piece of earlier work that is still the same.

    Raises:
        MetadataError: there is no such run.
        ConfigError: the configuration does not fit the world.
    """
    if not options.resumed:
        return Beginning(new_run_id(), options)

    from components.lineage.reader import Lineage

    announced = _announced_run(root)
    if announced:
        anew = replace(options, resumed=False)
        return Beginning(new_run_id(), anew, f"Instead of run {announced}: it was cut off before it did anything.")
    lineage = Lineage(loaded.config.metadata, loaded.config.name)
    run_id = _run_to_resume(lineage, loaded)
    if options.from_node:
        note = f"{options.from_node} and what follows are run anew"
    else:
        from runners.local.session import why_not_resumed

        module = _checked(loaded, root, options)
        note = why_not_resumed(lineage, run_id, loaded, module, root, options.accept_without_champion)
    if note:
        return Beginning(new_run_id(), replace(options, resumed=False), f"Instead of run {run_id}: {note}.")
    return Beginning(run_id, options)


@contextlib.contextmanager
def _announced(root: Path, run_id: str) -> Iterator[None]:
    """Leaves a note that a run is being prepared, of which the store knows nothing yet; it stays only after a kill."""
    (root / _ANNOUNCED).write_text(run_id, encoding="utf-8")
    try:
        yield
    finally:
        (root / _ANNOUNCED).unlink(missing_ok=True)


def _announced_run(root: Path) -> str:
    """Id of the run that was killed while it was being prepared, or ""."""
    try:
        return (root / _ANNOUNCED).read_text(encoding="utf-8")
    except OSError:
        return ""


def _run_to_resume(lineage: Any, loaded: LoadedConfig) -> str:
    runs = lineage.runs()
    if not runs or runs[0].outcome not in ("unfinished", "failed"):
        raise MetadataError(
            f"pipeline {loaded.config.name!r}",
            "there is no run to resume",
            expected="a newest run that was cut off or failed",
            got=runs[0].outcome if runs else "no runs",
            remedy="Run it without --resume: what is known is reused.",
        )
    if runs[0].config_digest != loaded.digest:
        raise MetadataError(
            f"run {runs[0].run_id}",
            "had another configuration",
            remedy="Give the same file and the same --set, or run without --resume.",
        )
    return str(runs[0].run_id)


def _checked(loaded: LoadedConfig, root: Path, options: Options) -> Any:
    """The user's module; imported only where TFX runs in this process."""
    from pipeline.check import check
    from pipeline.user_module import load_user_module, locate_user_module
    from runners.beam import engine_faults

    find = load_user_module if options.runner == "tfx-local" else locate_user_module
    return check(loaded, root, find, engine_faults(loaded.config, str(root)))


def _node_record(result: Any) -> dict[str, Any]:
    record = {
        "node": result.node,
        "state": result.state,
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
    }
    if result.peak_memory_mb is not None:
        record["peak_memory_mb"] = result.peak_memory_mb
    if result.progress is not None:
        record["progress"] = result.progress.as_dict()
    return record


@dataclass(frozen=True)
class _Job:
    """What a runner needs to prepare a run."""

    loaded: LoadedConfig
    module: Any
    root: Path
    run_id: str
    store: Any
    lineage: Any
    options: Options
    workers: Workers | None = None


def _session(job: _Job, *, reads_ahead: bool = False) -> Any:
    from runners.local.session import Session

    options = job.options
    return Session(
        loaded=job.loaded,
        module=job.module,
        root=job.root,
        run_id=job.run_id,
        store=job.store,
        lineage=job.lineage,
        overrides=list(options.overrides),
        resumed=options.resumed,
        from_node=options.from_node,
        accept_without_champion=options.accept_without_champion,
        reads_ahead=reads_ahead,
        workers=job.workers,
    )


@contextlib.contextmanager
def _prepared_local(job: _Job) -> Iterator[Callable[[Watcher], list[Any]]]:
    with _session(job, reads_ahead=True) as session:
        yield lambda watcher: session.run(watcher.node_started, watcher.node_ended)


@contextlib.contextmanager
def _prepared_tfx_local(job: _Job) -> Iterator[Callable[[Watcher], list[Any]]]:
    from components.lineage.store import connection_config
    from pipeline.pipeline import create_pipeline
    from runners.beam import beam_arguments, ingests_on_beam

    config = job.loaded.config
    pipeline = create_pipeline(
        config,
        job.module,
        str(job.root),
        connection_config(config.metadata),
        beam_arguments(config.beam),
        ingest_on_beam=ingests_on_beam(config.beam),
        accept_without_champion=job.options.accept_without_champion,
    )
    yield lambda watcher: _run_tfx_local(pipeline, job.run_id, job.lineage, watcher)


def _refuse_foreign_root(store: Any, root: Path, loaded: LoadedConfig) -> None:
    """Keeps a new store, which numbers its artifacts from 1, from writing over those of an earlier one."""
    if store.get_context_by_type_and_name("pipeline", loaded.config.name) is not None:
        return
    if any(_holds_artifacts(entry) for entry in root.iterdir()):
        fault = Fault(
            "(pipeline root)",
            "holds artifacts of which the metadata store knows nothing",
            "the store in which they were recorded, or another root (--root DIR)",
            str(root),
        )
        raise ConfigError(str(loaded.file), [fault])


def _holds_artifacts(entry: Path) -> bool:
    """Whether a node has left something there; what was read ahead before anything ran is hidden."""
    if not entry.is_dir() or entry.name in ("cache", "logs") or entry.name.startswith("."):
        return False
    return any(not inner.name.startswith(".") for inner in entry.iterdir())


def _run_tfx_local(pipeline: Any, run_id: str, lineage: Any, watcher: Watcher) -> list[Any]:
    """TFX's LocalDagRunner on the same graph. It tells of nothing while it runs, so the nodes are told of at the end."""
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from runners.local.engine import NodeResult
    from runners.local.jobs import cause_of

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
            told = "".join(traceback.format_exception(raised)) if raised and not ok else ""
            state = record.state if ok else "failed"
            result = NodeResult(name, state, record.seconds, reason, record, traceback=told)
        watcher.node_ended(result)
        results.append(result)
    return results


def _record_missed_rollbacks(store: Any, loaded: LoadedConfig) -> None:
    """A rollback that was cut off before it was recorded must not leave the old champion in the lineage."""
    from components.lineage.acts import record_missed_rollbacks
    from serving.store import open_versions

    push = loaded.config.push
    for base_path in (push.serving.base_path, *([push.edge.base_path] if push.edge else [])):
        record_missed_rollbacks(store, loaded.config.name, open_versions(base_path), base_path)


def _compile(pipeline: Any, run_id: str) -> Any:
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.portable import runtime_parameter_utils

    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return compiled


def _result(run_id: str, nodes: list[Any], lineage: Any, options: Options, log: Path) -> RunResult:
    failed = [one for one in nodes if one.state == "failed"]
    decision, push = lineage.decision(run_id), lineage.push_result(run_id)
    data_decision = lineage.data_decision(run_id)
    error = None
    outcome = outcome_of(data_decision, decision, push)
    if failed:
        outcome, error = "failed", _failure(failed[0], options, log)
    elif outcome == "failed":
        error = NodeFailedError("the run", "ended without a decision", remedy=f"The log is {log}.")
    return RunResult(run_id, outcome, nodes, decision, data_decision, push, log, error)


def outcome_of(data_decision: DataDecision | None, decision: Decision | None, push: PushResult | None) -> Outcome:
    """How a run ended whose nodes did not fail; `failed` where it came to no decision."""
    if data_decision and data_decision.outcome == "block":
        return "data_blocked"
    if push is None or decision is None:
        return "failed"
    if push.blocked:
        return "pending" if decision.outcome == "pending" else "blocked"
    return "pushed" if push.outcome == "pushed" else "already_served"


def _failure(node: Any, options: Options, log: Path) -> NodeFailedError:
    resume = "" if options.runner == "tfx-local" else " --resume"
    return NodeFailedError(
        f"node {node.node}",
        node.reason,
        remedy=f"The log is {node.log or log}. What had finished is kept: `{options.command}{resume}` goes on from there.",
    )
