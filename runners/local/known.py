"""What the engine knows of nodes by their type, so that it can decide about them without TFX: drivers and resolvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runners.local.graph import Node
from runners.local.records import Artifacts, Records
from schemas.config import PushConfig, SourceConfig

__all__ = ["COMPARED", "NEVER_ALIKE", "driver_parameters", "has_known_driver", "resolve"]

NEVER_ALIKE = frozenset({"served_state"})
"""Parameters that a driver adds, and that the node itself changes by what it does."""

COMPARED = {
    "components.evaluator.component.Evaluator": "baseline_model",
    "components.profiler.component.Profiler": "champion",
    "components.tflite.evaluator.TFLiteEvaluator": "devices",
}
"""Type of a node that measures the champion beside the candidate, to the input that brings it."""

_Driver = Callable[[Mapping[str, Any], Artifacts], dict[str, str | int | float]]


def _example_gen(parameters: Mapping[str, Any], _: Artifacts) -> dict[str, str | int | float]:
    from components.example_gen.fingerprint import identity_of

    return dict(identity_of(SourceConfig.model_validate_json(parameters["source"])))


def _pusher(parameters: Mapping[str, Any], inputs: Artifacts) -> dict[str, str | int | float]:
    from components.pusher.work import state_before
    from schemas.decision import Decision

    decision = Decision.model_validate_json(Path(inputs["decision"][0].uri, "decision.json").read_bytes())
    return {"served_state": state_before(decision, PushConfig.model_validate_json(parameters["push"]))}


def _tflite_evaluator(_: Mapping[str, Any], inputs: Artifacts) -> dict[str, str | int | float]:
    from components.profiler.machine import machine
    from components.tflite.edge import devices_of

    devices = devices_of(next(iter(inputs.get("devices") or ()), None))
    return {"machine": machine(), "devices_state": devices.state if devices else ""}


def _profiler(_: Mapping[str, Any], __: Artifacts) -> dict[str, str | int | float]:
    from components.profiler.machine import machine

    return {"machine": machine()}


_DRIVERS: dict[str, _Driver] = {
    "components.example_gen.component.ExampleGen": _example_gen,
    "components.profiler.component.Profiler": _profiler,
    "components.pusher.component.Pusher": _pusher,
    "components.tflite.evaluator.TFLiteEvaluator": _tflite_evaluator,
}


def has_known_driver(node: Node, custom_drivers: set[str]) -> bool:
    """Whether the engine knows what a node's driver adds: it has none, or one of ours."""
    return node.id not in custom_drivers or node.type in _DRIVERS


def driver_parameters(node: Node, inputs: Artifacts) -> dict[str, str | int | float]:
    """What the node's driver will add to its parameters, the same as in the driver itself."""
    driver = _DRIVERS.get(node.type)
    return driver(node.parameters, inputs) if driver else {}


def _candidates(node: Node, results: Mapping[str, Artifacts], artifact_type: str) -> list[Any]:
    """What a node of this run put out for a resolver to look at."""
    made = [
        one
        for channels in node.resolver_inputs.values()
        for one in channels
        if one.producer and one.artifact_type == artifact_type
    ]
    return results[made[0].producer].get(made[0].output_key, []) if made else []


def _champion(
    node: Node, records: Records, results: Mapping[str, Artifacts], arguments: Mapping[str, str]
) -> Artifacts:
    from components.lineage.served import choose

    candidates = _candidates(node, results, "Model")
    found = choose(
        next(iter(candidates), None),
        records.artifacts_of_type(node, "PushedModel"),
        records.artifacts_of_type(node, "Model"),
        arguments["base_path"],
    )
    candidate = {"candidate": candidates} if candidates else {}
    return {**candidate, "served": _some(found.push), "champion": _some(found.champion)}


def _baseline(node: Node, records: Records, _: Mapping[str, Artifacts], arguments: Mapping[str, str]) -> Artifacts:
    from components.lineage.trained_on import trained_on

    found = trained_on(records.store, records.artifacts_of_type(node, "PushedModel"), arguments["base_path"])
    return {"served": _some(found.push), "baseline": _some(found.statistics)}


def _devices(node: Node, records: Records, results: Mapping[str, Artifacts], arguments: Mapping[str, str]) -> Artifacts:
    from components.tflite.edge import find

    candidates = _candidates(node, results, "TFLiteModels")
    pushes = records.artifacts_of_type(node, "PushedModel")
    found = find(next(iter(candidates), None), pushes, arguments["base_path"])
    return {"candidate": candidates, "served": _some(found.push), "devices": _some(found.devices)}


_Resolver = Callable[[Node, Records, Mapping[str, Artifacts], Mapping[str, str]], Artifacts]

_STRATEGIES: dict[str, _Resolver] = {
    "components.lineage.champion.ChampionStrategy": _champion,
    "components.lineage.baseline.BaselineStrategy": _baseline,
    "components.lineage.devices.DevicesStrategy": _devices,
}


def resolve(node: Node, records: Records, results: Mapping[str, Artifacts]) -> Artifacts | None:
    """What a resolver chooses; None where its strategy is none of ours.

    Args:
        node: the resolver.
        records: of the run.
        results: node id to the outputs of nodes that have ended.
    """
    for graph in node.proto.inputs.input_graphs.values():
        for one in graph.nodes.values():
            strategy = _STRATEGIES.get(one.op_node.op_type)
            if strategy is not None:
                arguments = {key: value.value.field_value.string_value for key, value in one.op_node.kwargs.items()}
                return strategy(node, records, results, arguments)
    return None


def _some(artifact: Any | None) -> list[Any]:
    return [] if artifact is None else [artifact]
