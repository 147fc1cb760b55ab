"""Turns TFDV's anomalies, drift and skew into the data gate's decision. Imports neither TFX nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.config import ValidateConfig
from schemas.decision import Anomaly, Baseline, Comparison, DataDecision

__all__ = ["anomalies_of", "decide", "summary_of"]

_DATASET = ""
_NAMED = 3


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


def decide(
    anomalies: Iterable[Anomaly],
    rows: Mapping[str, int],
    validate: ValidateConfig,
    comparisons: Iterable[Comparison] = (),
    baseline: Baseline | None = None,
) -> DataDecision:
    """The decision on a data set: it blocks where the configuration says that what was found blocks.

    Args:
        anomalies: of all splits.
        rows: number of rows per split.
        validate: the configuration's section.
        comparisons: drift and skew.
        baseline: with what drift was measured; None where no drift is asked for.
    """
    ordered = sorted(anomalies, key=lambda a: (a.severity != "block", a.feature, a.split, a.kind))
    compared = sorted(comparisons, key=_by_urgency)
    reasons = [f"{a.feature or 'the data set'} ({a.split}): {a.reason} [{a.kind}]" for a in ordered if _blocks(a)]
    if validate.anomalies != "block":
        reasons = []
    deviating = [one for one in compared if one.deviates]
    reasons += [f"{c.feature} ({c.split}): {c.reason} [{c.kind}]" for c in deviating if _blocks(c)]
    if _lacks_baseline(baseline) and validate.on_no_baseline == "block":
        assert baseline is not None
        reasons.append(f"no baseline: {baseline.reason}")
    return DataDecision(
        outcome="block" if reasons else "proceed",
        anomalies=tuple(ordered),
        comparisons=tuple(compared),
        baseline=baseline,
        retrain=any(one.severity == "retrain" for one in deviating),
        rows=dict(rows),
        reasons=tuple(reasons),
    )


def _blocks(found: Anomaly | Comparison) -> bool:
    return found.severity == "block"


def _lacks_baseline(baseline: Baseline | None) -> bool:
    """Whether something is served that the data cannot be compared with; a first run lacks nothing."""
    return baseline is not None and not baseline.found and baseline.version is not None


def _by_urgency(one: Comparison) -> tuple[int, float, str, str, str]:
    """What deviates first, then what could not be judged, then what is nearest to its limit."""
    order = 0 if one.deviates else 1 if one.verdict != "pass" else 2
    margin = one.limit - one.value if one.value is not None else 0.0
    return order, margin, one.feature, one.measure, one.split


def summary_of(decision: DataDecision) -> str:
    """The decision in a few words: `proceed, drift in fare, trip_miles`."""
    parts: list[str] = [decision.outcome]
    if decision.anomalies:
        parts.append(_counted(len(decision.anomalies), "anomaly", "anomalies"))
    for kind in ("drift", "skew"):
        features = sorted({one.feature for one in decision.comparisons if one.kind == kind and one.deviates})
        if features:
            more = f" and {len(features) - _NAMED} more" if len(features) > _NAMED else ""
            parts.append(f"{kind} in {', '.join(features[:_NAMED])}{more}")
    if decision.baseline is not None:
        drifted = any(one.kind == "drift" and one.deviates for one in decision.comparisons)
        if not decision.baseline.found:
            parts.append("no baseline")
        elif not drifted:
            parts.append(f"no drift from version {decision.baseline.version}")
    return ", ".join(parts)


def _counted(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number} {many}"
