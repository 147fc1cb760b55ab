"""What every container runs: `python -m runners.kubeflow.node ACT …`, in an empty directory, from the installed wheel.

`begin` checks that a run can be made and records that it has begun; `node` launches one node; `tell` shows why nothing was
pushed; `report` records how the run ended and shows the decision, whatever happened before; `settle` carries out what a
person decided on an earlier run. A node that blocks ends
well and says so in its outputs; a failure ends with a message and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.kubeflow.job import BeginJob, NodeJob, TellJob, unpack
from schemas.errors import NodeFailedError, RolledBackError, find_cause

__all__ = ["main"]

_UNEXPECTED = 1
_HEAVY = ("tfx.orchestration.portable.launcher", "tfx.orchestration.local.runner_utils")
_TALKATIVE = ("apache_beam", "matplotlib")


@dataclass(frozen=True)
class _Call:
    """What the container was told.

    Attributes:
        name: of the task.
        run_id: Kubeflow's, which is the run's.
        job: packed.
        values: key of the configuration to the value that this run was given.
        outputs: name to the file in which Kubeflow looks for it.
        executor_input: Kubeflow's own record of the task; empty where it was not asked for.
    """

    name: str
    run_id: str
    job: str
    values: Mapping[str, str]
    outputs: Mapping[str, Path]
    executor_input: Mapping[str, Any]

    def write(self, name: str, text: str) -> None:
        """Puts an output where Kubeflow looks for it; one that was not asked for is left out."""
        path = self.outputs.get(name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the arguments say.

    Returns:
        The exit code: 0 done, blocked or skipped; else that of the error.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    act, call = _parsed(arguments)
    try:
        _ACTS[act](call)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong ends the container with a message
        traceback.print_exc()
        ours = find_cause(error)
        _say(f"error: {ours or f'{type(error).__name__}: {error}'}")
        return ours.exit_code if ours else _UNEXPECTED
    return 0


def _parsed(arguments: Sequence[str] | None) -> tuple[str, _Call]:
    parser = argparse.ArgumentParser(prog="runners.kubeflow.node", allow_abbrev=False)
    parser.add_argument("act", choices=sorted(_ACTS))
    parser.add_argument("--name", required=True)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--value", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    parser.add_argument("--output", nargs=2, action="append", default=[], metavar=("NAME", "FILE"))
    parser.add_argument("--executor-input", default="{}")
    given = parser.parse_args(arguments)
    outputs = {name: Path(file) for name, file in given.output}
    return given.act, _Call(
        given.name, given.run_id, given.job, dict(given.value), outputs, json.loads(given.executor_input)
    )


def _say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# --- begin ------------------------------------------------------------------------------------------------------------


def _begin(call: _Call) -> None:
    from runners.kubeflow.record import NodeNote, begin

    job = unpack(BeginJob, call.job)
    try:
        pipeline = begin(job, call.run_id, call.values)
    except Exception as error:
        with contextlib.suppress(OSError):
            NodeNote(Path(job.root), call.run_id, call.name).write("failed", 0.0, _cause_of(error))
        raise
    _say(f"run {call.run_id} of pipeline {pipeline} has begun")


# --- node -------------------------------------------------------------------------------------------------------------


def _node(call: _Call) -> None:
    from components.lineage.store import open_store
    from pipeline.user_module import add_to_path
    from runners.kubeflow.kept import keep, verified
    from runners.kubeflow.record import NodeNote
    from runners.local.lean import import_all, leave_closed
    from runners.local.records import Records

    leave_closed("tfx.components")
    import_all(_HEAVY)
    job = unpack(NodeJob, call.job)
    add_to_path(Path(job.folder))
    graph = _graph_of(job, call.run_id)
    (node,) = graph.nodes
    store = open_store(job.metadata)
    records = Records(store)
    note = NodeNote(Path(graph.root), call.run_id, job.node)
    records.clear(node, graph.root)
    began = time.monotonic()
    try:
        with verified(Path(graph.root), records) as verdict:
            _launch(graph, job, records)
        state = _state(records, node)
        if state == "ran" and not node.is_resolver:
            found = records.outputs_of(records.execution_of(node))
            keep(Path(graph.root), [artifact for artifacts in found.values() for artifact in artifacts])
    except Exception as error:
        note.write("failed", time.monotonic() - began, _cause_of(error))
        raise
    note.write(state, time.monotonic() - began, verdict.reason if state == "ran" else "")
    call.write("state", state)
    if state != "skipped":
        _write_outputs(call, job, records, graph)
    _say(f"node {job.node}: {state}")


def _graph_of(job: NodeJob, run_id: str) -> Any:
    """The node's part of the graph: as it was compiled, or as Begin built it for the values that the run was given."""
    import base64

    from runners.kubeflow.part import alone, left_graph
    from runners.local.graph import read_graph

    compiled = read_graph(base64.b64decode(job.ir), run_id)
    own = left_graph(Path(compiled.root), run_id) if job.takes_values else None
    return compiled if own is None else read_graph(alone(own, job.node), run_id)


def _launch(graph: Any, job: NodeJob, records: Any) -> None:
    """Launches the node.

    Raises:
        NodeFailedError: an earlier attempt of this very run has not ended well, and neither has this one, without a word.
    """
    from ml_metadata.proto import metadata_store_pb2

    from runners.local.jobs import launch_node

    launch_node(graph.ir, job.node, job.metadata, use_cache=True)
    execution = records.execution_of(graph.nodes[0])
    finished = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
    if execution is not None and execution.last_known_state not in finished:
        raise NodeFailedError(
            f"node {job.node}",
            "its inputs could not be resolved",
            remedy="The log above says which; a node that it needs has put out nothing.",
        )


def _state(records: Any, node: Any) -> str:
    """How the node ended, as the lineage has it: `ran`, `cached` or, for one whose condition is not met, `skipped`."""
    from ml_metadata.proto import metadata_store_pb2

    execution = records.execution_of(node)
    if execution is None:
        return "skipped"
    return "cached" if execution.last_known_state == metadata_store_pb2.Execution.CACHED else "ran"


def _cause_of(error: Exception) -> str:
    from runners.local.jobs import cause_of

    return cause_of(error)


def _write_outputs(call: _Call, job: NodeJob, records: Any, graph: Any) -> None:
    """What conditions read, and what Kubeflow's page shows."""
    from runners.kubeflow.record import outcome_so_far, shown

    found = records.outputs_of(records.execution_of(graph.nodes[0]))
    for key, artifacts in found.items():
        for artifact in artifacts[:1]:
            for name, text in _properties(artifact).items():
                call.write(f"{key}_{name}", text)
    if "outcome" in call.outputs:
        call.write("outcome", outcome_so_far(job.metadata, graph.ir.pipeline_info.id, call.run_id, records.store))
    if {"data", "gates"} & set(call.outputs):
        page = shown(job.node, call.run_id, found)
        for name, text in page.texts.items():
            call.write(name, text)
        _write_metrics(call, page.metrics)


def _properties(artifact: Any) -> dict[str, str]:
    texts = {}
    for values in (artifact.custom_properties, artifact.properties):
        for key, value in values.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "string_value", "double_value"):
                texts[key] = str(getattr(value, kind))
    return texts


def _write_metrics(call: _Call, metrics: Mapping[str, float]) -> None:
    """Figures go into the metadata of Kubeflow's own artifact, through the file that its launcher reads afterwards."""
    outputs = call.executor_input.get("outputs", {})
    given = outputs.get("artifacts", {}).get("metrics", {}).get("artifacts", [])
    if not given or "outputFile" not in outputs:
        return
    artifact = {**given[0], "metadata": {**given[0].get("metadata", {}), **metrics}}
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": {"metrics": {"artifacts": [artifact]}}}), encoding="utf-8")
    call.write("metrics", json.dumps(dict(metrics), indent=2))


# --- tell and report --------------------------------------------------------------------------------------------------


def _tell(call: _Call) -> None:
    from runners.kubeflow.record import told

    page = told(unpack(TellJob, call.job), call.run_id)
    _say(page.verdict)
    call.write("reasons", page.markdown)


def _report(call: _Call) -> None:
    from runners.kubeflow.record import close

    page = close(unpack(TellJob, call.job), call.run_id)
    _say(page.markdown)
    call.write("decision", page.markdown)
    call.write("decision_page", page.html)


def _settle(call: _Call) -> None:
    from runners.approval import approve_in, reject_in
    from runners.kubeflow.job import SettleJob

    job = unpack(SettleJob, call.job)
    if job.verb == "reject":
        reject_in(job.metadata, job.pipeline, job.run, job.by, job.reason)
        _say(f"run {job.run} was rejected by {job.by}: nothing is pushed")
        return
    _, push = approve_in(job.metadata, job.pipeline, job.run, job.by, job.reason)
    if push.outcome == "rolled_back":
        raise RolledBackError(f"run {job.run}", push.reason)
    _say(f"run {job.run} was approved by {job.by}. {push.reason}")


_ACTS = {"begin": _begin, "node": _node, "tell": _tell, "report": _report, "settle": _settle}


def _run() -> None:
    """Ends without the interpreter's clean-up: TensorFlow and Beam have been seen to crash in it, after all was done."""
    try:
        code = main()
    except SystemExit as end:  # argparse
        code = end.code if isinstance(end.code, int) else _UNEXPECTED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _run()
