"""How a raw request to the serving signature names a feature, and how it says that a value is missing. No TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable

from schemas.errors import DataError

__all__ = ["MISSING_INT", "request_name", "request_names"]

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]")

MISSING_INT = -(2**63)
"""Says "missing" for an integer feature in a raw request; text says it by being empty, a real number by NaN."""


def request_name(feature: str) -> str:
    """The name under which a request gives a raw feature.

    >>> request_name("mean radius"), request_name("2nd")
    ('mean_radius', 'f2nd')
    """
    name = _NOT_A_NAME.sub(_in_ascii, feature)
    return name if name[:1].isalpha() else f"f{name}"  # TensorFlow would rename it silently


def request_names(features: Iterable[str]) -> dict[str, str]:
    """The name under which a request gives each raw feature.

    Raises:
        DataError: where two features would have the same name.

    >>> request_names(["mean radius", "fare"])
    {'mean radius': 'mean_radius', 'fare': 'fare'}
    """
    names: dict[str, str] = {}
    for feature in features:
        name = request_name(feature)
        clash = next((other for other, taken in names.items() if taken == name), None)
        if clash is not None:
            raise DataError(
                f"features {clash!r} and {feature!r}",
                f"would both be asked for as {name!r} by the serving signature",
                remedy="Rename one of the columns.",
            )
        names[feature] = name
    return names


def _in_ascii(match: re.Match[str]) -> str:
    """`_` for a sign that TensorFlow does not take; a letter of another alphabet by its number, so that none are alike."""
    letter = match.group()
    return "_" if letter.isascii() else f"u{ord(letter):x}"
