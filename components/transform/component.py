"""The `Transform` node."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.code import code_fingerprint
from components.transform import executor

__all__ = ["Transform"]


class TransformSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Transform`."""

    PARAMETERS = {
        "preprocessing_fn": component_spec.ExecutionParameter(type=str),
        "preprocessing_fn_fingerprint": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }


class Transform(base_beam_component.BaseBeamComponent):
    """Analyzes the `train` split with the user's `preprocessing_fn`.

    Output `transform_graph`: what `tft.TFTransformOutput` reads, and `rows.json`, the number of rows of each split. The
    Trainer transforms what it reads, which takes less time than writing and reading transformed examples. A Beam
    component only because of what it cannot do itself, which stock TFX then does on Beam.
    """

    SPEC_CLASS = TransformSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        preprocessing_fn: str,
        fingerprint: str,
    ) -> None:
        """Makes the node.

        Args:
            examples: splits of tf.Examples, `train` among them.
            schema: the curated schema.
            preprocessing_fn: dotted path of the user's function of that name; it takes `inputs` alone.
            fingerprint: of the code that the function can reach.
        """
        super().__init__(
            TransformSpec(
                examples=examples,
                schema=schema,
                preprocessing_fn=preprocessing_fn,
                preprocessing_fn_fingerprint=fingerprint,
                code_fingerprint=code_fingerprint("components.transform", "schemas"),
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
            )
        )
