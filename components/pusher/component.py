"""The `Pusher` node."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types.system_executions import Deploy

from components.artifact_types import Decision, TFLiteModels
from components.pusher import driver, executor
from schemas.config import PushConfig

__all__ = ["Pusher"]


class PusherSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Pusher`; the driver fills `served_state`."""

    PARAMETERS = {
        "push": component_spec.ExecutionParameter(type=str),
        "pipeline_name": component_spec.ExecutionParameter(type=str),
        "served_state": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "decision": component_spec.ChannelParameter(type=Decision),
        "tflite": component_spec.ChannelParameter(type=TFLiteModels, optional=True),
    }
    OUTPUTS = {
        "pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel),
        "pushed_file": component_spec.ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
    }
    TYPE_ANNOTATION = Deploy


class Pusher(base_component.BaseComponent):
    """Publishes the candidate into the watch directory if the decision admits it, whole or not at all.

    It refuses bytes other than those that were measured, payloads that do not answer the requests that they carry, and a
    push that a rollback has overtaken; where servers have to confirm a version and one does not, it withdraws the version.
    Its output, `pushed_model`, holds a `schemas.decision.PushResult` (`push_result.json`), and as custom properties what
    `components.pusher.publish.PushRecord.properties` lists: `pushed` is 1 on the records that make a champion.
    `pushed_file` holds the same of the `.tflite` file and the edge directory, where one is pushed.
    A cached record is reused only while the watch directory still holds what it held.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(
        self,
        model: types.BaseChannel,
        decision: types.BaseChannel,
        push: PushConfig,
        pipeline_name: str,
        tflite: types.BaseChannel | None = None,
    ) -> None:
        """Makes the node.

        Args:
            model: the candidate.
            decision: the gate's, on that candidate.
            push: the configuration's section; its base paths are absolute.
            pipeline_name: for the version's manifest.
            tflite: the candidate's `.tflite` files, of which the decision names one.
        """
        super().__init__(
            PusherSpec(
                model=model,
                decision=decision,
                tflite=tflite,
                push=push.model_dump_json(by_alias=True),
                pipeline_name=pipeline_name,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
                pushed_file=types.Channel(type=standard_artifacts.PushedModel) if tflite and push.edge else None,
            )
        )
