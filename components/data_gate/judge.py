"""Turns TensorFlow Data Validation's anomalies into the data gate's decision. Imports neither TFX nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.config import ValidateConfig
from schemas.decision import Anomaly, DataDecision

__all__ = ["anomalies_of", "decide"]

_DATASET = ""


def anomalies_of(split: str, found: Any, severity: str) -> list[Anomaly]:
    """One record for each reason in TFDV's `Anomalies` proto of a split.

    Args:
        split: name of the split.
        found: a `tensorflow_metadata` Anomalies proto.
        severity: `block` or `warn`, given to each.
    """
    records = []
    features = [*sorted(found.anomaly_info.items())]
    if found.HasField("dataset_anomaly_info"):
        features.append((_DATASET, found.dataset_anomaly_info))
    for feature, info in features:
        reasons = info.reason or [info]
        for reason in reasons:
            kind = type(info).Type.Name(getattr(reason, "type", 0))
            text = reason.description or info.description
            records.append(
                Anomaly(split=split, feature=feature, kind=kind, reason=" ".join(text.split()), severity=severity)
            )
    return records


def decide(anomalies: Iterable[Anomaly], rows: Mapping[str, int], validate: ValidateConfig) -> DataDecision:
    """The decision on a data set: it blocks where the configuration says that anomalies block.

    Args:
        anomalies: of all splits.
        rows: number of rows per split.
        validate: the configuration's section.
    """
    ordered = sorted(anomalies, key=lambda a: (a.severity != "block", a.feature, a.split, a.kind))
    blocking = [anomaly for anomaly in ordered if anomaly.severity == "block"]
    reasons = tuple(f"{a.feature or 'the data set'} ({a.split}): {a.reason} [{a.kind}]" for a in blocking)
    return DataDecision(
        outcome="block" if validate.anomalies == "block" and blocking else "proceed",
        anomalies=tuple(ordered),
        rows=dict(rows),
        reasons=reasons,
    )
