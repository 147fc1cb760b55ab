"""The `TFLiteExporter` node."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from components.artifact_types import TFLiteModels
from components.code import code_fingerprint
from schemas.config import TFLiteConfig

__all__ = ["TFLiteExporter"]

_SPLIT = "train"


class Executor(base_executor.BaseExecutor):
    """Executor of `TFLiteExporter`. It completes whatever converts; what does not is told in the record."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Converts. See `TFLiteExporter` for what it reads and writes."""
        from pathlib import Path

        import tensorflow_transform as tft

        from components.tflite.convert import export, opened
        from components.tflite.preprocessing import before_calling, before_calling_raw
        from components.tflite.representative import features_of, raw_features_of, sample

        config = TFLiteConfig.model_validate_json(exec_properties["export"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        pattern = Path(io_utils.all_files_pattern(artifact_utils.get_split_uri(input_dict["examples"], _SPLIT)))
        transform = tft.TFTransformOutput(artifact_utils.get_single_uri(input_dict["transform_graph"]))
        output = artifact_utils.get_single_instance(output_dict["tflite"])
        examples = sample(pattern.parent.glob(pattern.name))
        with opened(path_utils.serving_model_path(model.uri), config.takes) as source:
            if config.takes == "raw":
                before = before_calling_raw(source.arguments, transform.raw_feature_spec())
                rows = raw_features_of(source.arguments, transform.raw_feature_spec(), examples)
            else:
                before = before_calling(source.arguments, transform.transform_savedmodel_dir)
                rows = features_of(source, examples)
            record = export(source, config.variants, rows, Path(output.uri), before)
        output.digest = record.saved_model
        output.set_int_custom_property("variants", sum(one.shippable for one in record.variants))


class TFLiteExporterSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `TFLiteExporter`."""

    PARAMETERS = {
        "export": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {"tflite": component_spec.ChannelParameter(type=TFLiteModels)}


class TFLiteExporter(base_component.BaseComponent):
    """Makes the ladder of `.tflite` files of the candidate.

    Output `tflite`: `VARIANT/model.tflite` for each variant that converts, and the record of all of them
    (`schemas.tflite.Export`). Representative rows are drawn from the `train` split.
    """

    SPEC_CLASS = TFLiteExporterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        tflite: TFLiteConfig,
    ) -> None:
        """Makes the node.

        Args:
            model: the candidate.
            examples: raw.
            transform_graph: tells which columns the features are made of.
            tflite: the configuration's section, of which the variants count, and what they take.
        """
        super().__init__(
            TFLiteExporterSpec(
                model=model,
                examples=examples,
                transform_graph=transform_graph,
                export=TFLiteConfig(variants=tflite.variants, takes=tflite.takes).model_dump_json(),
                code_fingerprint=code_fingerprint("components.tflite", "serving", "schemas"),
                tflite=types.Channel(type=TFLiteModels),
            )
        )
