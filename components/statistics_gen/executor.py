"""The executor: find the rows of each split, compute, write."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components import progress
from components.lineage.trained_on import DIGEST_PROPERTY, STATISTICS_FILE

__all__ = ["Executor"]


class Executor(base_executor.BaseExecutor):
    """Executor of `StatisticsGen`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write `FeatureStats.pb` of each split and set what the stock component sets on the artifact."""
        from components.statistics_gen.compute import split_statistics

        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = artifact_utils.get_single_instance(output_dict["statistics"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        statistics.split_names = artifact_utils.encode_split_names(splits)
        statistics.span = examples.span
        progress.begin("rows", sum(examples.get_int_custom_property(f"rows_{split}") for split in splits))
        for split in splits:
            folder = Path(artifact_utils.get_split_uri([statistics], split))
            folder.mkdir(parents=True, exist_ok=True)
            found = split_statistics(examples, split).SerializeToString()
            (folder / STATISTICS_FILE).write_bytes(found)
            statistics.set_string_custom_property(f"{DIGEST_PROPERTY}{split}", hashlib.sha256(found).hexdigest())
        statistics.set_json_value_custom_property("sample_rate_by_split", json.dumps(dict.fromkeys(splits, 1.0)))
