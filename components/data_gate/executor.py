"""Reads statistics and schema, validates each split, writes the decision down."""

import os
from typing import Any

# isort: off
from tfx import types  # before TFDV: the build for Python 3.11 asks tfx-bsl for a module that tfx stands in for
import tensorflow_data_validation as tfdv

# isort: on
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.data_gate.judge import anomalies_of, decide
from components.lineage.reader import RECORD_PROPERTY
from schemas.config import ValidateConfig
from schemas.decision import DATA_DECISION_FILE


class Executor(base_executor.BaseExecutor):
    """Executor of `DataGate`. It completes whatever it finds; the graph's condition keeps the rest from running."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judges the data. See `DataGate` for what it reads and writes."""
        validate = ValidateConfig.model_validate_json(exec_properties["validate"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        schema_uri = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri))
        anomalies, rows = [], {}
        for split in artifact_utils.decode_split_names(statistics.split_names):
            found = stats_artifact_utils.load_statistics(statistics, split).proto()
            rows[split] = int(found.datasets[0].num_examples)
            anomalies += anomalies_of(split, tfdv.validate_statistics(found, schema), validate.anomalies)
        decision = decide(anomalies, rows, validate)
        output = artifact_utils.get_single_instance(output_dict["decision"])
        output.outcome = decision.outcome
        output.proceed = int(decision.outcome == "proceed")
        output.set_string_custom_property(RECORD_PROPERTY, decision.model_dump_json())
        io_utils.write_string_file(os.path.join(output.uri, DATA_DECISION_FILE), decision.model_dump_json(indent=2))
