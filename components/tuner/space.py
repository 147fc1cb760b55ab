"""The space of hyperparameters, as the searcher sees it and as TFX's HyperParameters artifact holds it. Pure.

To the searcher a value is a whole number, a real number or one of some texts: a choice is handed to it as JSON, and a range
with a step by the number of steps from its beginning, so that no rounding shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from schemas.config import DimensionConfig

__all__ = ["Draw", "decoded", "draw_of", "encoded", "keras_tuner_config", "size_of"]

_DIGITS = 12
"""Of a real number that is reckoned from its step: 0.1 * 3 is 0.3."""


@dataclass(frozen=True)
class Draw:
    """What the searcher draws for one hyperparameter.

    Attributes:
        kind: `choice`, `whole` or `real`.
        choices: texts of a choice; else empty.
        low, high: of a range, both among its values; else 0.
        log: whether it is drawn evenly in the logarithm.
    """

    kind: Literal["choice", "whole", "real"]
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False


def draw_of(dimension: DimensionConfig) -> Draw:
    """What stands for a dimension in the searcher.

    >>> draw_of(DimensionConfig(min=0, max=0.5, step=0.1))
    Draw(kind='whole', choices=(), low=0, high=5, log=False)
    """
    if dimension.choices is not None:
        return Draw("choice", tuple(dict.fromkeys(json.dumps(one, sort_keys=True) for one in dimension.choices)))
    low, high = _ends(dimension)
    if dimension.step is not None:
        return Draw("whole", low=0, high=math.floor((high - low) / dimension.step + 1e-9))
    return Draw("whole" if dimension.whole else "real", low=low, high=high, log=dimension.log)


def decoded(dimension: DimensionConfig, drawn: str | float) -> JsonValue:
    """The hyperparameter's value for what was drawn.

    >>> decoded(DimensionConfig(min=0, max=0.5, step=0.1), 3), decoded(DimensionConfig(choices=([64, 32], [32])), "[32]")
    (0.3, [32])
    """
    if dimension.choices is not None:
        value: JsonValue = json.loads(str(drawn))
        return value
    if dimension.step is not None:
        low, _ = _ends(dimension)
        number = low + int(drawn) * dimension.step
        return int(number) if dimension.whole else float(f"{number:.{_DIGITS}g}")
    return int(drawn) if dimension.whole else float(drawn)


def encoded(dimension: DimensionConfig, value: JsonValue) -> str | float | None:
    """What would have to be drawn for a value; None where the dimension does not hold it.

    >>> encoded(DimensionConfig(min=0, max=0.5, step=0.1), 0.3), encoded(DimensionConfig(min=8, max=64), 7)
    (3, None)
    """
    if dimension.choices is not None:
        text = json.dumps(value, sort_keys=True)
        return text if text in draw_of(dimension).choices else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = _ends(dimension)
    if not low <= value <= high or (dimension.whole and value != int(value)):
        return None
    if dimension.step is None:
        return int(value) if dimension.whole else float(value)
    steps = round((value - low) / dimension.step)
    return steps if math.isclose(low + steps * dimension.step, value, abs_tol=1e-9) else None


def size_of(space: Mapping[str, DimensionConfig]) -> int | None:
    """How many sets of values there are; None where they cannot be counted."""
    draws = [draw_of(dimension) for dimension in space.values()]
    if any(draw.kind == "real" for draw in draws):
        return None
    return math.prod(len(draw.choices) or int(draw.high - draw.low) + 1 for draw in draws)


def keras_tuner_config(space: Mapping[str, DimensionConfig], values: Mapping[str, JsonValue]) -> dict[str, Any]:
    """What `keras_tuner.HyperParameters.get_config` would give, which TFX's HyperParameters artifact holds.

    keras-tuner knows choices of one kind of scalar. Choices of anything else stand there as texts in JSON, and `json` names
    them: a key that keras-tuner passes over.

    Args:
        space: of the configuration.
        values: of the winner.
    """
    as_json = sorted(name for name, one in space.items() if one.choices is not None and not _of_one_scalar(one.choices))
    told = {name: json.dumps(value) if name in as_json else value for name, value in values.items()}
    entries = [_entry(name, one, told[name], as_json=name in as_json) for name, one in space.items()]
    return {"space": entries, "values": told, "json": as_json}


def _entry(name: str, dimension: DimensionConfig, best: JsonValue, *, as_json: bool) -> dict[str, Any]:
    shared = {"name": name, "default": best, "conditions": []}
    if dimension.choices is not None:
        values = [json.dumps(one) if as_json else one for one in dimension.choices]
        return {"class_name": "Choice", "config": {**shared, "values": values, "ordered": False}}
    range_ = {
        "min_value": dimension.min,
        "max_value": dimension.max,
        "step": dimension.step if dimension.step is not None or not dimension.whole or dimension.log else 1,
        "sampling": "log" if dimension.log else "linear",
    }
    return {"class_name": "Int" if dimension.whole else "Float", "config": {**shared, **range_}}


def _of_one_scalar(choices: tuple[JsonValue, ...]) -> bool:
    kinds = {type(one) for one in choices}
    return len(kinds) == 1 and kinds <= {str, int, float}


def _ends(dimension: DimensionConfig) -> tuple[float, float]:
    assert dimension.min is not None
    assert dimension.max is not None
    return dimension.min, dimension.max
