"""The `DataGate` node."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.artifact_types import DataDecision
from components.code import code_fingerprint
from components.data_gate import executor
from schemas.config import ValidateConfig

__all__ = ["DataGate"]


class DataGateSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `DataGate`."""

    PARAMETERS = {
        "validate": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "served": component_spec.ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
        "baseline": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics, optional=True),
    }
    OUTPUTS = {"decision": component_spec.ChannelParameter(type=DataDecision)}


class DataGate(base_component.BaseComponent):
    """Holds the statistics of every split against the schema and other data, and decides whether the run goes on.

    Writes a `DataDecision` whose property `proceed` the graph's condition reads. It never raises for bad data: a node
    that raises is marked FAILED and its outputs are deleted, the reasons among them.
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        validate: ValidateConfig,
        served: types.BaseChannel | None = None,
        baseline: types.BaseChannel | None = None,
    ) -> None:
        """Makes the node.

        Args:
            statistics: of every split.
            schema: the curated schema.
            validate: the configuration's section.
            served: the push record of the model now served; empty on the first run.
            baseline: statistics of the data on which that model was trained; empty where they are gone.
        """
        super().__init__(
            DataGateSpec(
                statistics=statistics,
                schema=schema,
                validate=validate.model_dump_json(by_alias=True),
                served=served,
                baseline=baseline,
                code_fingerprint=code_fingerprint("components.data_gate", "schemas"),
                decision=types.Channel(type=DataDecision),
            )
        )
