"""The driver: what the watch directory holds becomes part of the cache key before a cached push is looked for."""

from pathlib import Path

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types as portable_data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils

from components.pusher.work import state_before
from schemas.config import PushConfig
from schemas.decision import DECISION_FILE, Decision

__all__ = ["Driver"]


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Puts `served_state` into the execution. TFX compiles only drivers that have the first of the two bases."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """What TFX merges into the execution before it looks into its cache.

        Raises:
            StoreError: the watch directory cannot be read.
        """
        config = PushConfig.model_validate_json(execution_info.exec_properties["push"])
        uri = artifact_utils.get_single_uri(execution_info.input_dict["decision"])
        decision = Decision.model_validate_json(Path(uri, DECISION_FILE).read_bytes())
        result = driver_output_pb2.DriverOutput()
        data_types_utils.set_metadata_value(result.exec_properties["served_state"], state_before(decision, config))
        return result
