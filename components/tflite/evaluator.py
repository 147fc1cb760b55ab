"""The `TFLiteEvaluator` node."""

import os
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx import types
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types as portable_data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from components.artifact_types import Profile, TFLiteModels
from components.code import code_fingerprint
from components.profiler.machine import machine
from components.tflite.edge import devices_of
from schemas.decision import FIGURES_FILE
from schemas.tflite import EXPORT_FILE, Export

__all__ = ["TFLiteEvaluator"]

_SPLIT = "eval"


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Puts into the execution what the figures depend on beside the inputs: the machine, and the file devices have."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """What TFX merges into the execution before it looks into its cache."""
        result = driver_output_pb2.DriverOutput()
        pushed = execution_info.input_dict.get("devices") or [None]
        devices = devices_of(pushed[0].mlmd_artifact if pushed[0] else None)
        found = {"machine": machine(), "devices_state": devices.state if devices else ""}
        for name, value in {**execution_info.exec_properties, **found}.items():
            data_types_utils.set_metadata_value(result.exec_properties[name], value)
        return result


class Executor(base_executor.BaseExecutor):
    """Executor of `TFLiteEvaluator`. It completes whatever the files do; what is wrong with one is told as such."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Measures. See `TFLiteEvaluator` for what it reads and writes."""
        from tensorflow_model_analysis.proto import config_pb2

        from components import progress
        from components.evaluator.executor import raw_types_of
        from components.tflite.measure import Split, measure
        from components.tflite.quality import Subject

        progress.begin("answers", None)
        folder = Path(artifact_utils.get_single_uri(input_dict["tflite"]))
        export = Export.model_validate_json((folder / EXPORT_FILE).read_bytes())
        model = artifact_utils.get_single_instance(input_dict["model"])
        schema_dir = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_dir))
        pattern = Path(io_utils.all_files_pattern(artifact_utils.get_split_uri(input_dict["examples"], _SPLIT)))
        split = Split(
            sorted(str(file) for file in pattern.parent.glob(pattern.name)),
            path_utils.serving_model_path(model.uri),
            json_format.Parse(exec_properties["eval_config"], config_pb2.EvalConfig()),
            schema,
            raw_types_of(schema),
        )
        pushed = input_dict.get("devices") or [None]
        with tempfile.TemporaryDirectory(prefix="satisfice-devices-") as scratch:
            devices = devices_of(pushed[0].mlmd_artifact if pushed[0] else None, Path(scratch))
            whole = devices is not None and not devices.why_not
            champion = Subject(devices.path, devices.digest) if devices and whole else None
            figures = measure(export, folder, split, champion, exec_properties["machine"])
        if devices and devices.why_not:
            figures = figures.model_copy(update={"why_no_champion": devices.why_not})
        output = artifact_utils.get_single_instance(output_dict["profile"])
        output.digest = figures.candidate
        io_utils.write_string_file(os.path.join(output.uri, FIGURES_FILE), figures.model_dump_json(indent=1))


class TFLiteEvaluatorSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `TFLiteEvaluator`; the driver fills `machine` and `devices_state`."""

    PARAMETERS = {
        "eval_config": component_spec.ExecutionParameter(type=str),  # tfma.EvalConfig as JSON
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
        "machine": component_spec.ExecutionParameter(type=str, optional=True),
        "devices_state": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "tflite": component_spec.ChannelParameter(type=TFLiteModels),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "devices": component_spec.ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
    }
    OUTPUTS = {"profile": component_spec.ChannelParameter(type=Profile)}


class TFLiteEvaluator(base_component.BaseComponent):
    """Has every `.tflite` file answer the whole eval split, and measures answers and cost.

    Output `profile`: figures with `payload: tflite` (`schemas.decision.Figures`) of every variant and of the file that
    devices have now: quality per slice as the Evaluator has it, parity with the SavedModel, latency, memory, sizes.
    """

    SPEC_CLASS = TFLiteEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        tflite: types.BaseChannel,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        eval_config: Any,
        devices: types.BaseChannel | None = None,
    ) -> None:
        """Makes the node.

        Args:
            tflite: the files.
            model: that they are made of.
            examples: raw; the `eval` split counts.
            schema: the curated data schema.
            eval_config: a `tfma.EvalConfig` of the Evaluator's.
            devices: the record of the push of the file that devices have, unless it is one of `tflite`.
        """
        super().__init__(
            TFLiteEvaluatorSpec(
                tflite=tflite,
                model=model,
                examples=examples,
                schema=schema,
                eval_config=json_format.MessageToJson(
                    eval_config, preserving_proto_field_name=True, indent=None, sort_keys=True
                ),
                devices=devices,
                code_fingerprint=code_fingerprint(
                    "components.tflite", "components.evaluator", "components.profiler", "serving", "schemas"
                ),
                profile=types.Channel(type=Profile),
            )
        )
