"""TFMA's results as figures, one for each metric and slice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.slicer import slicer_lib

from components.evaluation.eval_config import CANDIDATE, CHAMPION, LABEL
from schemas.decision import Figure
from schemas.metrics import TWO_CLASSES

__all__ = ["figures_of", "read_figures"]

_HOW = f"tfma {tfma.__version__}"
_COUNT = "example_count"
_DIFFERENCE = "_diff"
_AREAS = ("auc", "auc_precision_recall")
_ONLY_MODEL = ""
"""TFMA drops the name of a model that it evaluates alone."""


def read_figures(folder: str, digest: str, *, champion: bool) -> list[Figure]:
    """Reads what an Evaluator wrote.

    Args:
        folder: uri of the ModelEvaluation artifact.
        digest: of the payload that was evaluated.
        champion: reads the champion's figures and not the candidate's.
    """
    names = [CHAMPION] if champion else [CANDIDATE, _ONLY_MODEL]
    for name in names:
        results = tfma.load_eval_results(folder, model_name=name).get_results()
        figures = [figure for result in results for figure in figures_of(result.slicing_metrics, digest)]
        if figures:
            return figures
    return []


def figures_of(slicing_metrics: Iterable[Any], digest: str) -> list[Figure]:
    """The figures in TFMA's `slicing_metrics`: pairs of a slice key and nested metrics by output and sub-key.

    A value that is not a number becomes None: it was looked for and is not there. So does an area under a curve where
    every label is the same, for which TFMA gives 0; such figures say why.
    """
    return [
        figure
        for slice_key, outputs in slicing_metrics
        if not slicer_lib.is_cross_slice_key(slice_key)  # slices compared with each other: no figure of one slice
        for figure in _figures_of_slice(
            {str(feature): _text(part) for feature, part in slice_key}, outputs[""][""], digest
        )
    ]


def _figures_of_slice(where: dict[str, str], metrics: Mapping[str, Any], digest: str) -> Iterator[Figure]:
    count = _number(metrics.get(_COUNT, {}))
    one_class = _one_class(metrics)
    for name, value in sorted(metrics.items()):
        if name.endswith(_DIFFERENCE):
            continue
        number = _number(value)
        if number is not None and (math.isnan(number) or (one_class and name in _AREAS)):
            number = None
        difference = metrics.get(name + _DIFFERENCE, {})
        paired = _interval(difference) if number is not None else None
        yield Figure(
            metric=name,
            value=number,
            digest=digest,
            slice=where,
            n=int(count) if count is not None else None,
            interval=_interval(value) if number is not None else None,
            how=_HOW,
            difference_to_champion=_number(difference) if paired else None,
            difference_interval=paired,
            why_not=one_class if number is None and name in TWO_CLASSES else "",
        )


def _one_class(metrics: Mapping[str, Any]) -> str:
    """What to say of a binary label that is the same in every example; "" where it is not, or is not known."""
    label = _number(metrics.get(LABEL, {}))
    return f"every label is {label:g}" if label in (0.0, 1.0) else ""


def _number(value: Mapping[str, Any]) -> float | None:
    if "doubleValue" in value:
        number = value["doubleValue"]
        return None if number is None else float(number)
    if "boundedValue" in value:
        return float(value["boundedValue"]["value"])
    return None


def _interval(value: Mapping[str, Any]) -> tuple[float, float] | None:
    """The bounds; None where there are none, or they are no numbers."""
    bounds = value.get("boundedValue")
    if not bounds:
        return None
    low, high = float(bounds["lowerBound"]), float(bounds["upperBound"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
