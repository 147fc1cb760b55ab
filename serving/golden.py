"""Requests that a payload carries with it: golden ones, with the answers of the model when it was trained, and warm-up.

Both lie in `assets.extra`, which is part of the payload's digest. TF Serving reads the warm-up requests when it loads a
version, and nothing else there: `golden.json` disturbs no server. No TensorFlow.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import NotAPayloadError

__all__ = ["GOLDEN_FILE", "WARM_UP_FILE", "Column", "Golden", "difference", "parse_golden", "read_golden"]

GOLDEN_FILE = Path("assets.extra", "golden.json")
WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")

_ABSOLUTE, _RELATIVE = 1e-4, 1e-3
"""How far an answer may be off: float32 gives 1e-6, other processors and fused kernels 1e-4 of a value; another model more."""

Dtype = Literal["string", "float32", "float64", "int64", "int32"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Column(_Record):
    """One input of the signature, for all rows.

    Attributes:
        dtype: as TensorFlow names it.
        values: one a row; text as it is, bytes that are no text as `{"b64": ...}`, as TF Serving's REST interface has it.
    """

    dtype: Dtype
    values: tuple[Any, ...]

    def plain(self) -> list[Any]:
        """The values as a tensor holds them: text as bytes."""
        return [_plain(value) for value in self.values]


class Golden(_Record):
    """Real rows, and what the model in memory answered to them when its training had ended.

    Attributes:
        format: of this record.
        signature: that takes the columns; its inputs by name.
        examples_signature: that takes `examples`.
        output: the output that is compared.
        inputs: name of the input to its column.
        examples: the same rows as serialized tf.Examples, in base64.
        predictions: one a row, of any shape.
    """

    format: Literal[1] = 1
    signature: str = "serving_default"
    examples_signature: str = "serving_examples"
    output: str = "outputs"
    inputs: dict[str, Column]
    examples: tuple[str, ...]
    predictions: tuple[Any, ...]

    @property
    def rows(self) -> int:
        """Their number."""
        return len(self.predictions)

    def records(self) -> list[bytes]:
        """The rows as serialized tf.Examples."""
        return [base64.b64decode(one) for one in self.examples]


def read_golden(payload: str | os.PathLike[str]) -> Golden | None:
    """The golden requests of a SavedModel; None where it carries none.

    Raises:
        NotAPayloadError: the file is damaged.
    """
    file = Path(payload, GOLDEN_FILE)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_golden(file, error) from error
    return parse_golden(content, file)


def parse_golden(content: bytes, file: Path) -> Golden:
    """Golden requests as a payload carries them.

    Args:
        content: of the file.
        file: its name, for messages.

    Raises:
        NotAPayloadError: the file is damaged.
    """
    try:
        found = Golden.model_validate_json(content)
    except ValidationError as error:
        raise _not_golden(file, error) from error
    lengths = {len(found.examples), *(len(column.values) for column in found.inputs.values())}
    if lengths != {found.rows} or not found.rows:
        raise NotAPayloadError(str(file), "holds golden requests that contradict themselves", remedy="Train it again.")
    return found


def _not_golden(file: Path, error: Exception) -> NotAPayloadError:
    text = " ".join(str(error).split())
    return NotAPayloadError(str(file), "holds no golden requests", got=text, remedy="Train it again.")


def difference(expected: Any, answered: Any) -> str:
    """What is wrong with answers, in words that follow `it answered`; "" where they are those that are expected.

    Args:
        expected, answered: numbers in lists of one shape, the rows first.
    """
    if _shape(expected) != _shape(answered):
        return f"in the shape {_shape(answered)} and not {_shape(expected)}"
    worst = max(
        ((_excess(theirs, ours), row, ours, theirs) for row, theirs, ours in _pairs(expected, answered)),
        key=lambda one: one[0],
        default=(0.0, 0, 0.0, 0.0),
    )
    excess, row, ours, theirs = worst
    return f"{ours:.6g} to golden request {row + 1} where the trained model gave {theirs:.6g}" if excess > 0 else ""


def _pairs(expected: Any, answered: Any) -> Iterator[tuple[int, float, float]]:
    for row, (theirs, ours) in enumerate(zip(expected, answered, strict=True)):
        yield from ((row, a, b) for a, b in zip(_flat(theirs), _flat(ours), strict=True))


def _excess(expected: float, answered: float) -> float:
    """By how much a number is further off than it may be; at most 0 where it is not."""
    if math.isnan(expected) or math.isnan(answered):
        return 0.0 if math.isnan(expected) and math.isnan(answered) else math.inf
    if expected == answered:
        return 0.0
    return abs(expected - answered) - _ABSOLUTE - _RELATIVE * abs(expected)


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)
    else:
        yield float(value)


def _shape(value: Any) -> list[int]:
    if not isinstance(value, list | tuple):
        return []
    return [len(value), *(_shape(value[0]) if value else [])]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value
