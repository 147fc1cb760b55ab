"""The `Profiler` node."""

import json
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.artifact_types import Profile
from components.code import code_fingerprint
from components.profiler import driver, executor
from schemas.config import GatesConfig
from schemas.metrics import PROFILED

__all__ = ["Profiler", "is_needed", "needs_of"]


_CODE = (
    *("components", "components.example_gen", "components.profiler", "components.trainer"),
    *("schemas", "serving"),
)


class ProfilerSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Profiler`."""

    PARAMETERS = {
        "needs": component_spec.ExecutionParameter(type=str),  # batch sizes and slices as JSON
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
        "machine": component_spec.ExecutionParameter(type=str, optional=True),  # filled by the driver
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "champion": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {"profile": component_spec.ChannelParameter(type=Profile)}


class Profiler(base_component.BaseComponent):
    """Measures what payloads cost, and whether the candidate serves what was trained.

    Output `profile`: the figures (`schemas.decision.Figures`) of latency, throughput, size, memory, parity and skew; each
    with the digest of the bytes that were measured. The machine is a parameter that the driver fills, so that figures of
    another machine are not found in the cache.
    """

    SPEC_CLASS = ProfilerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(
        self,
        model: types.BaseChannel,
        model_run: types.BaseChannel,
        examples: types.BaseChannel,
        champion: types.BaseChannel,
        gates: GatesConfig,
    ) -> None:
        """Makes the node.

        Args:
            model: the candidate.
            model_run: the record of its training, with the model's answers when it was in memory.
            examples: raw; requests are made of their `eval` split, parity of their `validate` split.
            champion: the model now served; it may be missing when the node runs.
            gates: the configuration's section, of which batch sizes and slices count.
        """
        super().__init__(
            ProfilerSpec(
                model=model,
                model_run=model_run,
                examples=examples,
                champion=champion,
                needs=json.dumps(needs_of(gates)),
                code_fingerprint=code_fingerprint(*_CODE),
                profile=types.Channel(type=Profile),
            )
        )


def is_needed(gates: GatesConfig) -> bool:
    """Whether any gate names a figure that the Profiler measures."""
    return any(gate.metric in PROFILED and gate.payload == "saved_model" for gate in gates.satisfy)


def needs_of(gates: GatesConfig) -> dict[str, list[Any]]:
    """What the gates ask to be measured, whatever their limits are."""
    profiled = [gate for gate in gates.satisfy if gate.metric in PROFILED and gate.payload == "saved_model"]
    sliced = [gate for gate in profiled if PROFILED[gate.metric].slices == "rows"]
    return {
        "batch_sizes": sorted({gate.batch_size for gate in profiled if gate.batch_size}),
        "slices": sorted({gate.slice_by for gate in sliced if gate.slice_by}),
    }
