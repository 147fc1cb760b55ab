"""Holds the values of features against those of other data, limit by limit. Imports neither TFX nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.data_gate.distance import Numbers, Texts, distance, values_of
from components.data_gate.limits import Limit, limits_of
from schemas.config import ValidateConfig
from schemas.decision import Baseline, Comparison

__all__ = ["Columns", "Side", "columns_of", "compare", "comparisons_of", "without_baseline"]

Columns = Mapping[str, Texts | Numbers | None]
"""Feature to its values; None for a column in which there are none."""

Severity = Literal["block", "warn", "retrain"]
_TRAIN = "train"


@dataclass(frozen=True)
class Side:
    """What the values are held against.

    Attributes:
        name: in words: `version 3`, `train`.
        columns: of it.
    """

    name: str
    columns: Columns


def columns_of(statistics: Any) -> dict[str, Texts | Numbers | None]:
    """The values of each feature in a `DatasetFeatureStatisticsList` proto of one data set."""
    return {".".join(one.path.step): values_of(one) for one in statistics.datasets[0].features}


def comparisons_of(
    validate: ValidateConfig,
    features: Mapping[str, str],
    statistics: Mapping[str, Any],
    baseline: Baseline | None,
    then: Any | None,
) -> list[Comparison]:
    """Every comparison that the configuration asks for.

    Args:
        validate: the configuration's section.
        features: name to type, of the schema.
        statistics: of each split, as protos.
        baseline: with what drift is measured; None where no drift is asked for.
        then: its statistics, as a proto; None where it has none.
    """
    columns = {split: columns_of(one) for split, one in statistics.items()}
    found: list[Comparison] = []
    drift, skew = limits_of(validate.drift, features), limits_of(validate.skew, features)
    if baseline is not None and then is None:
        found += without_baseline(drift, baseline, validate.on_drift)
    elif baseline is not None:
        side = Side(_served(baseline), columns_of(then))
        found += compare("drift", drift, _TRAIN, columns[_TRAIN], side, validate.on_drift, validate.min_examples)
    train = Side(_TRAIN, columns[_TRAIN])
    for split, its in columns.items():
        if split != _TRAIN:
            found += compare("skew", skew, split, its, train, validate.on_skew, validate.min_examples)
    return found


def compare(
    kind: Literal["drift", "skew"],
    limits: Iterable[Limit],
    split: str,
    columns: Columns,
    against: Side,
    severity: Severity,
    min_examples: int,
) -> Iterator[Comparison]:
    """One comparison for each limit.

    Args:
        kind: what it is called.
        limits: with the features to look at.
        split: whose values are judged.
        columns: of the split.
        against: the baseline.
        severity: what is to be done about a limit that is exceeded.
        min_examples: fewer values than that on either side are not judged.
    """
    for limit in limits:
        now, then = columns.get(limit.feature), against.columns.get(limit.feature)
        value, verdict, reason = _judged(limit, split, now, then, against, min_examples)
        yield Comparison(
            kind=kind,
            feature=limit.feature,
            measure=limit.measure,
            value=value,
            limit=limit.value,
            split=split,
            against=against.name,
            n=now.count if now else 0,
            against_n=then.count if then else 0,
            verdict=verdict,
            severity=severity,
            reason=reason,
        )


def without_baseline(limits: Iterable[Limit], baseline: Baseline, severity: Severity) -> Iterator[Comparison]:
    """The comparisons that could not be made, each with the reason."""
    for limit in limits:
        yield Comparison(
            kind="drift",
            feature=limit.feature,
            measure=limit.measure,
            limit=limit.value,
            against=_served(baseline),
            verdict="no_baseline",
            severity=severity,
            reason=baseline.reason,
        )


_Verdict = Literal["pass", "exceeded", "not_measured", "no_baseline", "too_few_examples"]


_Judged = tuple[float | None, _Verdict, str]
"""Value, verdict and reason."""


def _judged(
    limit: Limit, split: str, now: Texts | Numbers | None, then: Texts | Numbers | None, against: Side, least: int
) -> _Judged:
    if limit.feature not in against.columns:
        return None, "no_baseline", f"{against.name} has no such column"
    if now is None or then is None:
        return _of_no_values(split, now, then, against.name)
    if type(now) is not type(then):
        told = f"its type has changed: {_kind(now)} in {split}, {_kind(then)} in {against.name}"
        return None, "not_measured", f"{told}, which cannot be compared"
    value = distance(limit.measure, now, then)
    if value is None:
        return None, "not_measured", f"{limit.measure} is not defined for {_kind(now)}"
    return value, *_of_value(value, limit, (now.count, then.count), against.name, least)


def _of_value(value: float, limit: Limit, counts: tuple[int, int], against: str, least: int) -> tuple[_Verdict, str]:
    told = f"{limit.measure} from {against} is {value:.4g}"
    if min(counts) < least:
        return (
            "too_few_examples",
            f"{told}, of {counts[0]:,} values against {counts[1]:,}: under {least} are not judged",
        )
    if value > limit.value:
        return "exceeded", f"{told}, above {limit.value:.4g}"
    return "pass", f"{told}, at most {limit.value:.4g}"


def _of_no_values(split: str, now: Texts | Numbers | None, then: Texts | Numbers | None, against: str) -> _Judged:
    """Of a column that is empty on one side, or on both."""
    if now is not None:
        return None, "not_measured", f"there are {_count(now)} values in {split}, and none in {against}"
    if then is not None:
        return None, "not_measured", f"there are no values in {split}; {against} has {_count(then)}"
    return None, "pass", f"there are no values, as in {against}"


def _kind(values: Texts | Numbers) -> str:
    return f"{'text' if isinstance(values, Texts) else 'a number'} ({values.type})"


def _count(values: Texts | Numbers | None) -> str:
    return f"{values.count if values else 0:,}"


def _served(baseline: Baseline) -> str:
    return "the model served" if baseline.version is None else f"version {baseline.version}"
