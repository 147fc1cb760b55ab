"""Reads statistics, schema and baseline, has them judged, writes the decision down. No TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.data_gate.baseline import read_baseline
from components.data_gate.drift import comparisons_of
from components.data_gate.judge import anomalies_of, decide, summary_of
from components.data_gate.limits import faults_of
from components.data_gate.validate import validate_statistics
from components.example_gen.columns import columns_of
from components.lineage.trained_on import STATISTICS_FILE
from components.work import Call, write_record
from schemas.config import ValidateConfig
from schemas.decision import DATA_DECISION_FILE
from schemas.errors import ConfigError

__all__ = ["SUMMARY_PROPERTY", "judge_data"]

SUMMARY_PROPERTY = "summary"
"""Custom property that says in a few words what was found."""


def judge_data(call: Call) -> None:
    """Judges the data of a run. A block is written down like any other decision; it is no failure.

    Raises:
        ConfigError: a limit is for what is no feature, or a measure is not defined for one's type.
    """
    validate = ValidateConfig.model_validate_json(call.parameters["validate"])
    current = call.one("statistics")
    statistics = {split: _statistics(current, split) for split in _splits(current)}
    schema = _schema(call.one("schema"))
    anomalies = [
        anomaly
        for split, found in statistics.items()
        for anomaly in anomalies_of(split, validate_statistics(found, schema), validate.anomalies)
    ]
    kept = call.any("served"), call.any("baseline")
    baseline, then = read_baseline(*kept, current) if validate.drift else (None, None)
    comparisons = comparisons_of(validate, _types(schema, validate), statistics, baseline, then)
    rows = {split: int(found.datasets[0].num_examples) for split, found in statistics.items()}
    decision = decide(anomalies, rows, validate, comparisons, baseline)
    output = call.outputs["decision"]
    output.properties["outcome"].string_value = decision.outcome
    output.properties["proceed"].int_value = int(decision.outcome == "proceed")
    output.custom_properties[SUMMARY_PROPERTY].string_value = summary_of(decision)
    write_record(output, DATA_DECISION_FILE, decision)


def _splits(artifact: Any) -> list[str]:
    names: list[str] = json.loads(artifact.properties["split_names"].string_value)
    return names


def _statistics(artifact: Any, split: str) -> Any:
    content = Path(artifact.uri, f"Split-{split}", STATISTICS_FILE).read_bytes()
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(content)


def _schema(artifact: Any) -> Any:
    """The schema in the only file of its artifact."""
    (file,) = (path for path in Path(artifact.uri).iterdir() if not path.name.startswith("."))
    return text_format.Parse(file.read_text(encoding="utf-8"), schema_pb2.Schema())


def _types(schema: Any, validate: ValidateConfig) -> dict[str, str]:
    """Name to type of the schema's features."""
    features = {name: kind.value for name, kind in columns_of(text_format.MessageToString(schema)).items()}
    faults = list(faults_of(validate, features))
    if faults:
        raise ConfigError("data.validate", faults)
    return features
