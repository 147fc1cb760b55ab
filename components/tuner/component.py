"""The `Tuner` node."""

import importlib.metadata

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.code import code_fingerprint
from components.tuner import executor
from schemas.config import GatesConfig, ModelConfig, TFLiteConfig, TrainingConfig

__all__ = ["Tuner"]

_CODE = (
    *("components", "components.profiler", "components.tflite", "components.trainer", "components.tuner"),
    *("schemas", "serving"),
)


class TunerSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Tuner`."""

    PARAMETERS = {
        "model": component_spec.ExecutionParameter(type=str),
        "training": component_spec.ExecutionParameter(type=str),
        "gates": component_spec.ExecutionParameter(type=str),
        "tflite": component_spec.ExecutionParameter(type=str),
        "build_model_fingerprint": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "best_hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters),
        "tuner_results": component_spec.ChannelParameter(type=standard_artifacts.TunerResults),
    }


class Tuner(base_component.BaseComponent):
    """Searches for hyperparameters among those that the gates would let pass.

    Outputs, as TFX's own Tuner has them: `best_hyperparameters`, which a Trainer takes, in keras-tuner's form; and
    `tuner_results`, a row for each trial that is complete, beside the record of all trials (`schemas.tuning.Search`). Trials
    are trained on `train` and judged on `validate`; no other split is opened. Of the gates, those count that a trial can be
    held against. Latency and memory are of the machine that searches; the Gate measures the winner again.
    """

    SPEC_CLASS = TunerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        schema: types.BaseChannel,
        model: ModelConfig,
        training: TrainingConfig,
        gates: GatesConfig,
        tflite: TFLiteConfig | None,
        fingerprint: str,
    ) -> None:
        """Makes the node.

        Args:
            examples: raw.
            transform_graph: by which they are transformed.
            schema: of the raw examples.
            model, training, gates, tflite: the configuration's sections.
            fingerprint: of the code of the user's `build_model`.
        """
        super().__init__(
            TunerSpec(
                examples=examples,
                transform_graph=transform_graph,
                schema=schema,
                model=model.model_dump_json(by_alias=True),
                # Where the winner is trained says nothing of the search, which is made here.
                training=training.model_dump_json(by_alias=True, exclude={"cluster", "kubernetes"}),
                gates=gates.model_dump_json(by_alias=True),
                tflite=tflite.model_dump_json(by_alias=True) if tflite else "",
                build_model_fingerprint=fingerprint,
                code_fingerprint=f"{code_fingerprint(*_CODE)} optuna=={importlib.metadata.version('optuna')}",
                best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
                tuner_results=types.Channel(type=standard_artifacts.TunerResults),
            )
        )
