"""Reads the statistics of the data on which the model now served was trained, or says why they cannot be had.

Imports neither TFX nor TensorFlow.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.lineage.trained_on import DIGEST_PROPERTY, STATISTICS_FILE
from schemas.decision import Baseline

__all__ = ["SPLIT", "read_baseline"]

SPLIT = "train"


def read_baseline(served: Any | None, found: Any | None, current: Any) -> tuple[Baseline, Any | None]:
    """What there is to compare with: the record, and the statistics of the `train` split where they can be used.

    Args:
        served: the push record of the model now served, an `ml_metadata` Artifact proto; None where nothing is served.
        found: the statistics artifact of its training data; None where the lineage has none.
        current: the statistics artifact of this run.
    """
    if served is None:
        return Baseline(found=False, reason="nothing is served yet, so there is nothing to compare with"), None
    version = served.custom_properties["version"].int_value
    name = f"version {version}"
    if found is None:
        reason = f"the statistics of the data that {name} was trained on are not in the lineage any more"
        return Baseline(found=False, version=version, reason=reason), None
    statistics, problem = _read(found)
    if statistics is None:
        reason = f"the statistics of the data that {name} was trained on {problem}"
        return Baseline(found=False, version=version, statistics=found.id, reason=reason), None
    rows = int(statistics.datasets[0].num_examples)
    same = found.id == current.id or _content(found) == _content(current)
    told = "the same data" if same else f"{rows:,} rows"
    baseline = Baseline(
        found=True,
        version=version,
        statistics=found.id,
        same_data=same,
        reason=f"{name} was trained on {told}",
    )
    return baseline, statistics


def _file(artifact: Any) -> Path:
    return Path(artifact.uri, f"Split-{SPLIT}", STATISTICS_FILE)


def _content(artifact: Any) -> bytes:
    return _file(artifact).read_bytes()


def _read(artifact: Any) -> tuple[Any | None, str]:
    """The statistics, or what is wrong with their file."""
    path = _file(artifact)
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {path}: {error.strerror}"
    wanted = artifact.custom_properties[f"{DIGEST_PROPERTY}{SPLIT}"].string_value
    if wanted and hashlib.sha256(content).hexdigest() != wanted:
        return None, f"were changed since: {path}"
    try:
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(content)
    except DecodeError:
        return None, f"are damaged: {path}"
    return (statistics, "") if statistics.datasets else (None, f"are empty: {path}")
