"""The driver: what the files hold becomes part of the cache key before anything is read into the pipeline.

Stock TFX's file-based driver takes sizes and modification times; here it is the content, so that a file that was touched
or copied is read from the cache, and one that was changed in place is not.
"""

import copy

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types as portable_data_types
from tfx.proto.orchestration import driver_output_pb2

from components.example_gen.fingerprint import identity_of
from schemas.config import SourceConfig

__all__ = ["Driver"]


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Puts what `identity_of` tells of the source into the execution and onto the output artifact."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """What TFX merges into the execution before it looks into its cache.

        Raises:
            DataError: as `identity_of`.
        """
        source = SourceConfig.model_validate_json(execution_info.exec_properties["source"])
        properties = identity_of(source)
        result = driver_output_pb2.DriverOutput()
        (examples,) = execution_info.output_dict["examples"]
        artifact = copy.deepcopy(examples.mlmd_artifact)
        for name, value in {**execution_info.exec_properties, **properties}.items():
            data_types_utils.set_metadata_value(result.exec_properties[name], value)
        for name, value in properties.items():
            data_types_utils.set_metadata_value(artifact.custom_properties[name], value)
        result.output_artifacts["examples"].artifacts.append(artifact)
        return result
