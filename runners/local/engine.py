"""Runs the nodes of a compiled pipeline: what can be reused is reused without TFX, what has to run runs in workers.

What to do about a node is chosen once all that it needs has ended (`runners.local.choice`). Work that is known, and whose
files are as they were, is published again; light nodes (`runners.local.light`) are done in this process; the rest is
launched by TFX's portable launcher in a copy of the worker template, as many nodes at once as there are processors. The state of a node is read from ML Metadata after it was
launched, since the launcher does not raise for every failure.

A node that measures comes after others whose outputs it does not need, so that it has the machine for itself. It is begun
beside the last of them, and gets ready until it is told that it is its turn (`components.turn`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ml_metadata.proto import metadata_store_pb2

from components import progress, turn
from components.lineage.reader import NodeRecord
from components.progress import CHANNEL_SUFFIX, Progress
from runners.local import light
from runners.local.choice import Choice, Chooser
from runners.local.graph import Graph, Node
from runners.local.template import Done

__all__ = ["Engine", "NodeResult", "Plan", "Workers"]

_BACK_OFF_S = 1.0
_WAITS_FOR_ITS_TURN = ("components.profiler.component.Profiler",)
"""Types of nodes that know how to get ready before the nodes have ended that only have to be out of the way."""
_States = metadata_store_pb2.Execution
_DONE_WELL = {_States.COMPLETE: "ran", _States.CACHED: "cached"}


class Workers(Protocol):
    """Where work that has to run is handed to; `runners.local.template.Template` in production."""

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        """Begins a piece of work."""

    def wait(self, timeout_s: float | None = None) -> Done | None:
        """The next piece of work that ends; None where the time ran out."""


@dataclass(frozen=True)
class NodeResult:
    """How one node fared.

    Attributes:
        node: its id.
        state: `ran`, `cached`, `kept` (finished before the run was resumed), `skipped` or `failed`.
        seconds: wall time; of a node that got ready beside others, from its turn on.
        reason: why it ran, was skipped, failed, or could be reused.
        record: of the lineage; None where it left none.
        peak_memory_mb: largest resident set of its process; None where it had none of its own.
        cpu_s: processor time of its process; None where it had none of its own.
        log: file with its noise; None where it made none.
        traceback: of what it raised; "" where it raised nothing.
        progress: what it counted, and how fast; None where it counted nothing.
    """

    node: str
    state: str
    seconds: float
    reason: str = ""
    record: NodeRecord | None = None
    peak_memory_mb: float | None = None
    cpu_s: float | None = None
    log: Path | None = None
    traceback: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class Plan:
    """What the engine would do with a node, and why.

    Attributes:
        node: its id.
        action: as `Choice.action`, or `unknown` where it hangs on a node that has to run.
        reason: in words.
    """

    node: str
    action: str
    reason: str


@dataclass
class _Work:
    """A node that has been handed to a worker."""

    node: Node
    choice: Choice
    started: float
    log: Path
    attempt: int = 1
    due: float = 0.0
    its_turn: bool = True

    @property
    def turn(self) -> Path:
        """The file that tells the node's process that it is its turn."""
        return self.log.with_suffix(turn.TURN_SUFFIX)


@dataclass
class Engine:
    """One run of a graph.

    Attributes:
        graph: with the run id filled in.
        chooser: of this run.
        read_node: what the lineage of this run holds of a node, for the view.
        ir_file: file that holds the graph's IR, for workers.
        folder: of the configuration.
        metadata: the configuration's section, as JSON.
        log_of: node id to the file that takes its noise.
        max_parallel: nodes at once.
        retries: attempts after the first, for failures that are not ours.
    """

    graph: Graph
    chooser: Chooser
    read_node: Callable[[str], NodeRecord | None]
    ir_file: Path
    folder: Path
    metadata: str
    log_of: Callable[[str], Path]
    max_parallel: int = 2
    retries: int = 0
    _results: dict[str, NodeResult] = field(default_factory=dict)
    _running: dict[str, _Work] = field(default_factory=dict)
    _waiting: list[_Work] = field(default_factory=list)
    _ended_here: list[Done] = field(default_factory=list)

    def run(
        self, workers: Workers, on_start: Callable[[str], None], on_end: Callable[[NodeResult], None]
    ) -> list[NodeResult]:
        """Runs the graph. A failed node keeps those that need it from running, and no others.

        Args:
            workers: where what has to run is handed to.
            on_start, on_end: told of each node.

        Returns:
            One result per node, in the graph's order.
        """
        while len(self._results) < len(self.graph.nodes):
            self._give_turns()
            node = self._next()
            if node is not None:
                on_start(node.id)
                result = self._begin(node, workers)
            elif self._begin_early(workers, on_start):
                continue
            else:
                result = self._await(workers)
            if result is not None:
                self._results[result.node] = result
                on_end(result)
        return [self._results[node.id] for node in self.graph.nodes]

    def explain(self) -> list[Plan]:
        """What `run` would do, as far as it can be known before anything has run. Nothing is written."""
        plans: dict[str, Plan] = {}
        for node in self.graph.nodes:
            plans[node.id] = self._plan(node, plans)
        return list(plans.values())

    # --- beginning ----------------------------------------------------------------------------------------------------

    def _next(self) -> Node | None:
        """A node whose upstream nodes have ended, while there is a processor for it."""
        if sum(work.its_turn for work in self._works()) >= self.max_parallel:
            return None
        begun = {work.node.id for work in self._works()}
        for node in self.graph.nodes:
            if node.id not in self._results and node.id not in begun and not self._waits_for(node):
                return node
        return None

    def _works(self) -> list[_Work]:
        return [*self._running.values(), *self._waiting]

    def _waits_for(self, node: Node) -> list[str]:
        return [name for name in node.upstream if name not in self._results]

    def _begin_early(self, workers: Workers, on_start: Callable[[str], None]) -> bool:
        """Begins a node that will wait for its turn, and has to run; whether there was one."""
        begun = {work.node.id for work in self._works()}
        for node in self.graph.nodes:
            if node.type not in _WAITS_FOR_ITS_TURN or node.id in self._results or node.id in begun:
                continue
            ahead = self._waits_for(node)
            if self.max_parallel > 1 and ahead and self._running.keys() >= set(ahead) and not _needs(node) & set(ahead):
                choice = None if self._hindered(node) else self.chooser.choose(node)
                if choice is not None and choice.action == "run" and choice.damaged is None:
                    on_start(node.id)
                    self._submit(workers, _Work(node, choice, time.monotonic(), self.log_of(node.id), its_turn=False))
                    return True
        return False

    def _give_turns(self) -> None:
        for work in self._works():
            if not work.its_turn and not self._waits_for(work.node):
                work.its_turn, work.started = True, time.monotonic()
                work.turn.touch()

    def _begin(self, node: Node, workers: Workers) -> NodeResult | None:
        """The result of a node that does not have to run; None for one that was handed to a worker."""
        started = time.monotonic()
        hindered = self._hindered(node)
        if hindered:
            return NodeResult(node.id, "skipped", 0.0, hindered)
        choice = self.chooser.choose(node)
        if choice.action == "run":
            if choice.damaged is not None:
                self._discard(choice)
            self._submit(workers, _Work(node, choice, started, self.log_of(node.id)))
            return None
        if choice.action == "skip":
            return NodeResult(node.id, "skipped", 0.0, choice.reason)
        records = self.chooser.records
        if choice.action == "resolve":
            records.resolve(node, choice.outputs)
        elif choice.action == "reuse":
            records.reuse(node, choice.inputs, choice.outputs, node.parameters)
        self.chooser.remember(node, choice.outputs, choice.entry)
        state = {"keep": "kept", "resolve": "ran", "reuse": "cached"}[choice.action]
        return self._result(node, state, started, choice.reason)

    def _hindered(self, node: Node) -> str:
        """Why a node cannot run: the first above it that failed or was skipped; "" where all is well."""
        for name in node.upstream:
            above = self._results.get(name)
            if above is None:
                continue
            if above.state == "failed":
                return f"needs {name}, which failed"
            if above.state == "skipped":
                return above.reason
        return ""

    def _discard(self, choice: Choice) -> None:
        """Marks what is damaged as no longer live, and forgets it."""
        assert choice.damaged is not None
        ids = [one["id"] for records in choice.damaged.outputs.values() for one in records]
        records = self.chooser.records
        records.discard(records.store.get_artifacts_by_id(ids))
        self.chooser.cache.forget(choice.damaged)

    def _submit(self, workers: Workers, work: _Work) -> None:
        """Hands a node to a worker; one that is light is done on the spot, and its end heard of like any other's."""
        self.chooser.records.clear(work.node, self.graph.root)
        self._running[work.node.id] = work
        channel = _channel(work)
        channel.unlink(missing_ok=True)  # of an attempt that was killed
        if not work.its_turn:
            work.turn.unlink(missing_ok=True)
        if work.choice.ingredients is not None and light.is_light(work.node):
            records, inputs = self.chooser.records, work.choice.inputs
            done = light.run_here(work.node, records, inputs, self.graph.root, self.graph.run_id, work.log)
            self._ended_here.append(done)
            return
        workers.submit(
            work.node.id,
            "runners.local.jobs:launch",
            {
                "ir": str(self.ir_file),
                "node": work.node.id,
                "folder": str(self.folder),
                "use_cache": work.choice.ingredients is None,
                "channel": str(channel),
                "turn": "" if work.its_turn else str(work.turn),
                "metadata": self.metadata,
            },
            work.log,
        )

    # --- ending -------------------------------------------------------------------------------------------------------

    def _await(self, workers: Workers) -> NodeResult | None:
        """The result of the next piece of work that ends; None where an attempt was due or will be made again."""
        now = time.monotonic()
        for work in [one for one in self._waiting if one.due <= now]:
            self._waiting.remove(work)
            self._submit(workers, work)
        pause = max(0.0, min(one.due for one in self._waiting) - now) if self._waiting else None
        if not self._running:
            time.sleep(pause or 0.0)
            return None
        done = self._ended_here.pop() if self._ended_here else workers.wait(pause)
        return None if done is None else self._ended(self._running.pop(done.id), done)

    def _ended(self, work: _Work, done: Done) -> NodeResult | None:
        cause, traceback, may_retry = _failure(done)
        records = self.chooser.records
        execution = records.execution_of(work.node)
        state = execution.last_known_state if execution is not None else None
        if not cause and execution is None:
            return NodeResult(work.node.id, "skipped", time.monotonic() - work.started, "its condition is not met")
        if not cause and state in _DONE_WELL:
            outputs = records.outputs_of(execution)
            ingredients = work.choice.ingredients
            holds = ingredients is not None and self.chooser.still_holds(work.node, work.choice)
            entry = self.chooser.cache.keep(work.node.id, ingredients, outputs) if ingredients and holds else None
            self.chooser.remember(work.node, outputs, entry)
            return self._result(work.node, _DONE_WELL[state], work.started, work.choice.reason, work, done)
        if may_retry and work.attempt <= self.retries:
            work.due = time.monotonic() + _BACK_OFF_S * 2 ** (work.attempt - 1)
            work.attempt += 1
            self._waiting.append(work)
            return None
        if execution is not None and state not in (_States.FAILED, _States.CANCELED):
            records.fail(execution)
        cause = cause or "its inputs could not be resolved"
        return self._result(work.node, "failed", work.started, cause, work, done, traceback)

    def _result(
        self,
        node: Node,
        state: str,
        started: float,
        reason: str,
        work: _Work | None = None,
        done: Done | None = None,
        traceback: str = "",
    ) -> NodeResult:
        return NodeResult(
            node=node.id,
            state=state,
            seconds=time.monotonic() - started,
            reason=reason,
            record=self.read_node(node.id),
            peak_memory_mb=done.peak_memory_mb if done else None,
            cpu_s=done.cpu_s if done else None,
            log=work.log if work else None,
            traceback=traceback,
            progress=_last_report(work) if work else None,
        )

    # --- explaining ---------------------------------------------------------------------------------------------------

    def _plan(self, node: Node, plans: dict[str, Plan]) -> Plan:
        for name in node.upstream:
            if plans[name].action in ("run", "unknown"):
                return Plan(node.id, "unknown", f"hangs on {name}, which has to run")
            if plans[name].action == "skip":
                return Plan(node.id, "skip", plans[name].reason)
        choice = self.chooser.choose(node)
        if choice.action != "run":
            self.chooser.remember(node, choice.outputs, choice.entry)
        reason = choice.reason or ("nothing of it is kept" if choice.action == "run" else "looks up what is served")
        return Plan(node.id, choice.action, reason)


def _needs(node: Node) -> set[str]:
    """The nodes whose outputs a node reads, or its conditions."""
    return {
        channel.producer for found in (node.inputs, node.resolver_inputs) for one in found.values() for channel in one
    }


def _channel(work: _Work) -> Path:
    """The file to which a node reports how far it is, as `runners.view` looks for it."""
    return work.log.with_suffix(CHANNEL_SUFFIX)


def _last_report(work: _Work) -> Progress | None:
    """What a node that has ended reported last; its files go."""
    work.turn.unlink(missing_ok=True)
    channel = _channel(work)
    found = progress.read(channel)
    for path in (channel, channel.with_suffix(".half")):
        path.unlink(missing_ok=True)
    return found


def _failure(done: Done) -> tuple[str, str, bool]:
    """What went wrong in a worker, its traceback, and whether another attempt may fare better; "" for nothing."""
    if done.result is None:
        if done.status < 0:
            return f"its process was killed by signal {-done.status}", "", True
        return f"its process ended with status {done.status}", "", True
    if done.result:
        return done.result["cause"], done.result["traceback"], bool(done.result["retry"])
    return "", "", True
