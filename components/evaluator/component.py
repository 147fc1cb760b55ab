"""The `Evaluator` node."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from google.protobuf import json_format
from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types.system_executions import Evaluate

from components.code import code_fingerprint
from components.evaluator import executor

__all__ = ["Evaluator", "Intervals"]

Intervals = Literal["none", "jackknife", "poisson_bootstrap"]


class EvaluatorSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Evaluator`."""

    PARAMETERS = {
        "eval_config": component_spec.ExecutionParameter(type=str),  # tfma.EvalConfig as JSON
        "example_splits": component_spec.ExecutionParameter(type=str),  # names as JSON
        "intervals": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema, optional=True),
    }
    OUTPUTS = {"evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation)}
    TYPE_ANNOTATION = Evaluate


class Evaluator(base_beam_component.BaseBeamComponent):
    """Measures the quality of candidate and champion on the whole of some splits and on each slice.

    Output `evaluation`: what `tfma.load_eval_results` reads, with the figures that TFX's own Evaluator gives; and the same
    as `schemas.decision.Figures` (`figures.json`), with the digests of the bytes that were loaded, for the Gate. Unlike
    that one it does not bless: thresholds have no place in its configuration. A champion that cannot be evaluated any
    more is left out, and a note says why.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        eval_config: Any,
        *,
        example_splits: Sequence[str] = ("eval",),
        baseline_model: types.BaseChannel | None = None,
        schema: types.BaseChannel | None = None,
        intervals: Intervals = "none",
    ) -> None:
        """Makes the node.

        Args:
            examples: tf.Examples.
            model: the candidate.
            eval_config: a `tfma.EvalConfig`: models, metrics, slices.
            example_splits: the splits that are evaluated.
            baseline_model: the champion; it may be missing when the node runs.
            schema: the curated data schema. Slices by raw features need it.
            intervals: how 95 % intervals are made: by leaving out one of 20 parts of the rows in turn, or of 20 draws.
        """
        super().__init__(
            EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                schema=schema,
                eval_config=json_format.MessageToJson(
                    eval_config, preserving_proto_field_name=True, indent=None, sort_keys=True
                ),
                example_splits=json.dumps(list(example_splits)),
                intervals=intervals,
                code_fingerprint=code_fingerprint("components.evaluator", "components.evaluation", "schemas"),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )
