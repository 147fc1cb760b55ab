"""Which gates a trial can be held against, when, and whether it meets them. Pure.

Parameters are known when a model is built, before anything is trained; the sizes of what would be exported are known from
below. Metrics with which the model is compiled are known on `validate` once it is trained. What an exported payload costs
is measured of the trial that would win. All else is the Gate's alone: slices, comparisons with the champion, and counts, of
which the limit is meant for as many examples as `eval` has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.config import GatesConfig, SatisfyGate, TFLiteConfig
from schemas.metrics import COUNTS, PROFILED, QUALITY
from schemas.tuning import Violation

__all__ = ["Constraint", "Stage", "at_build", "constraints_of", "left_to_the_gate", "violations"]

Stage = Literal["built", "trained", "exported"]

_EXPORTED_FILES = frozenset({"size_mb"})
"""Figures of a `.tflite` file that are measured of a trial."""
_BYTES = {"float32": 4, "float16": 2, "dynamic_int8": 1, "int8": 1, "int16x8": 1}
"""That a weight takes at least in each variant."""
_MB = 1e6


@dataclass(frozen=True)
class Constraint:
    """A limit of a gate that a trial is held against.

    Attributes:
        gate: path of the gate.
        metric: what it limits.
        payload: of what.
        limit: in the metric's unit.
        upper: whether the limit is a maximum.
        stage: from when on the figure is known.
        batch_size: of a latency; None for the smallest that is measured.
        variant: of a `.tflite` file; None for any.
    """

    gate: str
    metric: str
    payload: Literal["saved_model", "tflite"]
    limit: float
    upper: bool
    stage: Stage
    batch_size: int | None = None
    variant: str | None = None

    @property
    def unit(self) -> str:
        """Of the limit."""
        return PROFILED[self.metric].unit if self.metric in PROFILED else "1"

    @property
    def name(self) -> str:
        """Of its figure among those of a trial."""
        words = [
            "tflite" if self.payload == "tflite" else "",
            self.metric,
            f"batch {self.batch_size}" if self.batch_size else "",
        ]
        return " ".join(word for word in words if word)

    def broken_by(self, value: float) -> Violation | None:
        """What is said of a value on the wrong side of the limit; None of one that meets it."""
        wrong = value > self.limit if self.upper else value < self.limit
        if not wrong:
            return None
        return Violation(
            gate=self.gate, metric=self.name, value=value, limit=self.limit, upper=self.upper, unit=self.unit
        )


def constraints_of(gates: GatesConfig) -> tuple[Constraint, ...]:
    """The limits that a trial can be held against, in the order of the gates."""
    found = []
    for index, gate in enumerate(gates.satisfy):
        stage = _stage_of(gate)
        if stage is None:
            continue
        upper = gate.condition == "max"
        limit = gate.max if upper else gate.min
        assert limit is not None
        found.append(
            Constraint(
                f"gates.satisfy.{index}", gate.metric, gate.payload, limit, upper, stage, gate.batch_size, gate.variant
            )
        )
    return tuple(found)


def left_to_the_gate(gates: GatesConfig) -> tuple[str, ...]:
    """Paths of the gates that no trial is held against."""
    return tuple(f"gates.satisfy.{index}" for index, gate in enumerate(gates.satisfy) if _stage_of(gate) is None)


def _stage_of(gate: SatisfyGate) -> Stage | None:
    if gate.slice_by or gate.against or gate.condition not in ("min", "max"):
        return None
    if gate.payload == "tflite":
        return "exported" if gate.metric in _EXPORTED_FILES else None
    if gate.metric in QUALITY:
        return None if gate.metric in COUNTS else "trained"
    if gate.metric == "parameters":
        return "built"
    return "exported" if PROFILED[gate.metric].slices == "none" else None


def violations(constraints: Iterable[Constraint], figures: Mapping[str, float], stage: Stage) -> tuple[Violation, ...]:
    """The limits that a trial does not meet, of those that are judged at a stage and whose figure is known.

    Args:
        constraints: of the gates.
        figures: of the trial, by `Constraint.name`.
        stage: that was reached.
    """
    judged = (one for one in constraints if one.stage == stage and one.payload == "saved_model" and one.name in figures)
    return tuple(broken for one in judged if (broken := one.broken_by(figures[one.name])) is not None)


def at_build(
    constraints: Sequence[Constraint],
    parameters: int,
    weight_bytes: int,
    matrix_parameters: int,
    tflite: TFLiteConfig | None,
) -> tuple[Violation, ...]:
    """The limits that a model cannot meet whatever it is trained to, as far as its weights alone tell.

    Args:
        constraints: of the gates.
        parameters: numbers in its variables.
        weight_bytes: of them, which a SavedModel holds as they are.
        matrix_parameters: those of them that no conversion folds away.
        tflite: the configuration's section; None where no files are made.
    """
    found = list(violations(constraints, {"parameters": float(parameters)}, "built"))
    for one in constraints:
        least = None
        if one.metric == "size_mb" and one.upper and one.payload == "saved_model":
            least = weight_bytes / _MB
        elif one.metric == "size_mb" and one.upper and tflite is not None:
            variants = [one.variant] if one.variant else list(tflite.variants)
            least = min(_BYTES[variant] for variant in variants) * matrix_parameters / _MB
        broken = one.broken_by(least) if least is not None else None
        found += [broken] if broken else []
    return tuple(found)
