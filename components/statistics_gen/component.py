"""The `StatisticsGen` node."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types.system_executions import Process

from components.code import code_fingerprint
from components.statistics_gen import executor

__all__ = ["StatisticsGen"]


class StatisticsGenSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `StatisticsGen`."""

    PARAMETERS = {"code_fingerprint": component_spec.ExecutionParameter(type=str)}
    INPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics)}
    TYPE_ANNOTATION = Process


class StatisticsGen(base_component.BaseComponent):
    """Computes the statistics of every split.

    Output `statistics`: `Split-<name>/FeatureStats.pb`, a `DatasetFeatureStatisticsList` in binary form, as the stock
    component writes it with its default options.
    """

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, examples: types.BaseChannel) -> None:
        """Makes the node.

        Args:
            examples: tf.Examples, of whatever ExampleGen; ours are read by their columns.
        """
        super().__init__(
            StatisticsGenSpec(
                examples=examples,
                code_fingerprint=code_fingerprint("components.statistics_gen", "components.example_gen"),
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            )
        )
