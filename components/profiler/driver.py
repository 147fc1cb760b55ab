"""The driver: the machine is part of what a profile is made of, so that figures of another one are not reused."""

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types as portable_data_types
from tfx.proto.orchestration import driver_output_pb2

from components.profiler.machine import machine

__all__ = ["Driver"]


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Puts `machine` into the execution."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """What TFX merges into the execution before it looks into its cache."""
        result = driver_output_pb2.DriverOutput()
        for name, value in {**execution_info.exec_properties, "machine": machine()}.items():
            data_types_utils.set_metadata_value(result.exec_properties[name], value)
        return result
