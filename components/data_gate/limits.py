"""Which distances of which features have a limit, and what is wrong with limits that a schema cannot meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.config import Limits, Measure, ValidateConfig
from schemas.errors import Fault, close_match

__all__ = ["EVERY", "Limit", "faults_of", "limits_of"]

EVERY = "*"
"""Stands for every feature that is not named."""


@dataclass(frozen=True)
class Limit:
    """A distance that a feature must not exceed."""

    feature: str
    measure: Measure
    value: float


def limits_of(limits: Limits, features: Mapping[str, str]) -> list[Limit]:
    """One for each feature and measure, in the order of the features.

    Args:
        limits: of the configuration. Of the default's measures, a feature takes those that are defined for it.
        features: name to type, `BYTES`, `INT` or `FLOAT`.
    """
    return [
        Limit(feature, measure, value)
        for feature, kind in features.items()
        for measure, value in sorted(limits.get(feature, limits.get(EVERY, {})).items())
        if feature in limits or _defined(measure, kind)
    ]


def faults_of(validate: ValidateConfig, features: Mapping[str, str]) -> Iterator[Fault]:
    """Features that the schema does not have, and measures that are not defined for one's type.

    Args:
        validate: the configuration's section.
        features: name to type, of the schema.
    """
    for key, limits in (("drift", validate.drift), ("skew", validate.skew)):
        for feature, measures in limits.items():
            path = f"data.validate.{key}.{feature}"
            if feature == EVERY:
                continue
            if feature not in features:
                expected = f"{EVERY!r} or one of {', '.join(features)}"
                yield Fault(
                    path, "is not a feature of the data schema", expected, feature, close_match(feature, features)
                )
                continue
            for measure in measures:
                if not _defined(measure, features[feature]):
                    problem = f"is a measure of texts, and {feature!r} is of type {features[feature]}"
                    yield Fault(f"{path}.{measure}", problem, "jensen_shannon")


def _defined(measure: Measure, kind: str) -> bool:
    return measure == "jensen_shannon" or kind == "BYTES"
