"""Reads statistics, schema and baseline, validates each split, compares, writes the decision down."""

import os
from typing import Any

# isort: off
from tfx import types  # before TFDV: the build for Python 3.11 asks tfx-bsl for a module that tfx stands in for
import tensorflow_data_validation as tfdv

# isort: on
from google.protobuf import text_format
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.data_gate.baseline import read_baseline
from components.data_gate.drift import comparisons_of
from components.data_gate.judge import anomalies_of, decide, summary_of
from components.data_gate.limits import faults_of
from components.example_gen.columns import columns_of
from components.lineage.reader import RECORD_PROPERTY
from schemas.config import ValidateConfig
from schemas.decision import DATA_DECISION_FILE, DataDecision
from schemas.errors import ConfigError

SUMMARY_PROPERTY = "summary"
"""Custom property that says in a few words what was found."""


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
        found = {
            split: stats_artifact_utils.load_statistics(statistics, split).proto()
            for split in artifact_utils.decode_split_names(statistics.split_names)
        }
        anomalies = [
            anomaly
            for split, one in found.items()
            for anomaly in anomalies_of(split, tfdv.validate_statistics(one, schema), validate.anomalies)
        ]
        served, kept = input_dict.get("served") or [], input_dict.get("baseline") or []
        baseline, then = read_baseline(served, kept, statistics) if validate.drift else (None, None)
        comparisons = comparisons_of(validate, _types(schema, validate), found, baseline, then)
        rows = {split: int(one.datasets[0].num_examples) for split, one in found.items()}
        decision = decide(anomalies, rows, validate, comparisons, baseline)
        _write_down(decision, artifact_utils.get_single_instance(output_dict["decision"]))


def _types(schema: Any, validate: ValidateConfig) -> dict[str, str]:
    """Name to type of the schema's features.

    Raises:
        ConfigError: a limit is for what is no feature, or a measure is not defined for one's type.
    """
    features = {name: kind.value for name, kind in columns_of(text_format.MessageToString(schema)).items()}
    faults = list(faults_of(validate, features))
    if faults:
        raise ConfigError("data.validate", faults)
    return features


def _write_down(decision: DataDecision, output: types.Artifact) -> None:
    output.outcome = decision.outcome
    output.proceed = int(decision.outcome == "proceed")
    output.set_string_custom_property(RECORD_PROPERTY, decision.model_dump_json())
    output.set_string_custom_property(SUMMARY_PROPERTY, summary_of(decision))
    io_utils.write_string_file(os.path.join(output.uri, DATA_DECISION_FILE), decision.model_dump_json(indent=2))
