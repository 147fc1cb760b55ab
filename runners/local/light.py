"""Nodes that need no TFX, run in the engine's own process: a second, unchanged run imports nothing heavy for them."""

from __future__ import annotations

import shutil
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from components.work import Call, Work
from runners.local import known
from runners.local.graph import Node
from runners.local.jobs import cause_of
from runners.local.records import Artifacts, Records
from runners.local.template import Done
from schemas.errors import find_cause

__all__ = ["is_light", "run_here"]

_WORK = {
    "components.data_gate.component.DataGate": "components.data_gate.work:judge_data",
    "components.gate.component.Gate": "components.gate.work:judge",
    "components.pusher.component.Pusher": "components.pusher.work:publish_candidate",
}
"""Type of a node to the function that its TFX executor calls."""


def is_light(node: Node) -> bool:
    """Whether a node is run in this process."""
    return node.type in _WORK


def run_here(node: Node, records: Records, inputs: Artifacts, root: str, run_id: str, log: Path) -> Done:
    """Runs a node, with the records and the folders that TFX's launcher would make.

    Args:
        node: a light one.
        records: of the run.
        inputs: of the node.
        root: pipeline root.
        run_id: of the run.
        log: takes the traceback of a failure.

    Returns:
        As of a worker. A failed node leaves a FAILED execution and no outputs.
    """
    began = time.process_time()
    outputs: Artifacts = {}
    execution = None
    result: dict[str, Any] = {}
    try:
        parameters = {**node.parameters, **known.driver_parameters(node, inputs)}
        execution = records.begin(node, inputs, parameters)
        outputs = {key: [records.output(node, key, f"{root}/{node.id}/{key}/{execution.id}")] for key in node.outputs}
        _work_of(node)(Call(inputs, {key: found[0] for key, found in outputs.items()}, parameters, run_id))
        records.complete(node, execution, outputs)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a node is the node's failure
        with log.open("a", encoding="utf-8") as stream:
            traceback.print_exc(file=stream)
        for (artifact,) in outputs.values():
            shutil.rmtree(artifact.uri, ignore_errors=True)
        if execution is not None:
            records.fail(execution)
        result = {"cause": cause_of(error), "retry": find_cause(error) is None, "traceback": traceback.format_exc()}
    return Done(node.id, result, 0, None, time.process_time() - began)


def _work_of(node: Node) -> Work:
    module, _, name = _WORK[node.type].partition(":")
    work: Work = getattr(import_module(module), name)
    return work
