"""TFMA's results as figures, one for each metric and slice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_model_analysis as tfma

from components.evaluation.eval_config import CANDIDATE, CHAMPION
from schemas.decision import Figure

__all__ = ["figures_of", "read_figures"]

_HOW = f"tfma {tfma.__version__}"
_COUNT = "example_count"
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

    A value that is not a number (a calibration where no label is positive) becomes None: it was looked for and is not
    there. An AUC over one class is 0 in TFMA, and is told as it is.
    """
    figures = []
    for slice_key, outputs in slicing_metrics:
        metrics = outputs[""][""]
        count = _number(metrics.get(_COUNT, {}))
        for name, value in sorted(metrics.items()):
            if name.endswith("_diff"):
                continue
            number = _number(value)
            figures.append(
                Figure(
                    metric=name,
                    value=None if number is None or math.isnan(number) else number,
                    digest=digest,
                    slice={str(feature): _text(part) for feature, part in slice_key},
                    n=int(count) if count is not None else None,
                    interval=_interval(value),
                    how=_HOW,
                )
            )
    return figures


def _number(value: Mapping[str, Any]) -> float | None:
    if "doubleValue" in value:
        number = value["doubleValue"]
        return None if number is None else float(number)
    if "boundedValue" in value:
        return float(value["boundedValue"]["value"])
    return None


def _interval(value: Mapping[str, Any]) -> tuple[float, float] | None:
    bounds = value.get("boundedValue")
    return (float(bounds["lowerBound"]), float(bounds["upperBound"])) if bounds else None


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
