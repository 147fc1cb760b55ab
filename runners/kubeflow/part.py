"""A node's part of a compiled graph, and the graph of a run whose parameters have other values. Imports protos alone."""

from __future__ import annotations

import os
from pathlib import Path

from tfx.proto.orchestration import pipeline_pb2

from runners.local.graph import Graph, read_graph
from schemas.errors import SatisficeError

__all__ = ["alone", "leave_graph", "left_graph", "shape_of"]

_RUN_ID = "(run)"
"""Stands for the run's id where only the shape of the graph matters."""


def shape_of(serialized: bytes) -> Graph:
    """The nodes of a pipeline's IR, for whoever arranges them."""
    return read_graph(serialized, _RUN_ID)


def alone(serialized: bytes, node: str) -> bytes:
    """The IR of one node by itself, serialized: what its container needs and no more.

    Its condition is Kubeflow's, which starts the container where it is met. What only the condition reads is hidden with it:
    TFX's cache would otherwise take a gate that judged anew, and decided the same, for another input.
    """
    ir = pipeline_pb2.Pipeline.FromString(serialized)
    (kept,) = [one for one in ir.nodes if one.pipeline_node.node_info.id == node]
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    ir.deployment_config.Unpack(deployment)
    for specs in (deployment.executor_specs, deployment.custom_driver_specs, deployment.node_level_platform_configs):
        for other in [name for name in specs if name != node]:
            del specs[other]
    deployment.ClearField("metadata_connection_config")
    ir.deployment_config.Pack(deployment, deterministic=True)
    own = pipeline_pb2.Pipeline.PipelineOrNode()
    own.CopyFrom(kept)
    for key, spec in own.pipeline_node.inputs.inputs.items():
        spec.hidden = spec.hidden or key.startswith("_")
    own.pipeline_node.inputs.ClearField("conditionals")
    del ir.nodes[:]
    ir.nodes.append(own)
    return bytes(ir.SerializeToString(deterministic=True))


def leave_graph(root: Path, run_id: str, serialized: bytes | None) -> None:
    """Leaves the graph of a run for its nodes, whole or not at all.

    Args:
        root: pipeline root.
        run_id: of the run.
        serialized: the IR; None where every parameter has the value with which the pipeline was compiled.
    """
    file = _file(root, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".half")
    half.write_bytes(serialized or b"")
    os.replace(half, file)


def left_graph(root: Path, run_id: str) -> bytes | None:
    """What `leave_graph` left.

    Raises:
        SatisficeError: nothing was left, so that nobody knows which values the run was given.
    """
    try:
        return _file(root, run_id).read_bytes() or None
    except OSError as error:
        raise SatisficeError(
            f"run {run_id}",
            "has no graph",
            expected=str(_file(root, run_id)),
            got=str(error.strerror),
            remedy="Begin leaves it on the volume, which every container has to mount at the same place.",
        ) from error


def _file(root: Path, run_id: str) -> Path:
    return root / "logs" / run_id / "graph.pb"
