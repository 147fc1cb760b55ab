"""How good each `.tflite` file is by itself: TFMA's figures of its own answers on a whole split, and parity."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from tensorflow_model_analysis import utils
from tensorflow_model_analysis.view.util import convert_metrics_proto_to_dict
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_slice_metrics_to_proto

from components.evaluation.figures import figures_of
from components.evaluator.compute import metrics_per_slice
from components.evaluator.rows import Rows, SliceKey, read_rows
from components.tflite.interpret import ailment, predict
from components.tflite.parity import parity
from schemas.decision import Figure
from schemas.errors import InterpreterError
from schemas.metrics import PROFILED

__all__ = ["MODEL", "Judged", "Subject", "judge", "quality_figures", "read_split"]

Array = npt.NDArray[Any]

MODEL = ""
"""Under which the one model stands in `Rows`."""
_HOW = "LiteRT's interpreter on each row of the eval split"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A file to judge.

    Attributes:
        digest: of the payload.
    """

    path: Path
    digest: str


@dataclasses.dataclass(frozen=True)
class Judged:
    """What its answers tell of a file.

    Attributes:
        figures: of quality and of parity, whole split and slices; without values where there is a problem.
        problem: why its answers are none, or "".
    """

    figures: tuple[Figure, ...]
    problem: str = ""


def read_split(
    files: Sequence[str], saved_model: str, eval_config: Any, features: Iterable[str], raw_types: Mapping[str, Any]
) -> tuple[Rows, Any]:
    """The rows of a split with the SavedModel's answers, and the features that its `.tflite` files take.

    Args:
        files: TFRecord files of tf.Examples.
        saved_model: folder.
        eval_config: a `tfma.EvalConfig` of candidate and champion; only the candidate's part counts.
        features: names of transformed features.
        raw_types: as for `components.evaluator.rows.read_rows`.

    Returns:
        The rows, and the configuration with its defaults filled in.

    Raises:
        Unsupported: the SavedModel was not written by the Trainer, or there are no rows.
    """
    config = utils.update_eval_config_with_defaults(eval_config, has_baseline=False, rubber_stamp=True)
    (spec,) = config.model_specs
    rows = read_rows(files, {MODEL: (saved_model, spec)}, config.slicing_specs, raw_types, features)
    return rows, config


def judge(subject: Subject, rows: Rows, config: Any, schema: Any = None) -> Judged:
    """Has a file answer every row, and measures the answers.

    Args:
        subject: the file.
        rows, config: from `read_split`.
        schema: of the data, or None.
    """
    reference = rows.predictions[MODEL]
    try:
        answers = predict(subject.path, rows.features[MODEL])
    except InterpreterError as error:
        return _unwell(subject, f"{error.problem}. {error.remedy}".rstrip())
    if answers.shape != reference.shape:
        return _unwell(subject, f"answers in shape {list(answers.shape)}, the SavedModel in {list(reference.shape)}")
    problem = ailment(answers, reference)
    if problem:
        return _unwell(subject, problem)
    own = dataclasses.replace(rows, predictions={MODEL: answers})
    figures = [
        *quality_figures(own, config, schema, subject.digest),
        *_parity(subject, answers, reference, rows.slices),
    ]
    return Judged(tuple(figures))


def quality_figures(rows: Rows, config: Any, schema: Any, digest: str) -> Iterator[Figure]:
    """The metrics of given answers on each slice, as the Evaluator has them of a SavedModel's.

    Args:
        rows: with the answers as the one model's predictions.
        config, schema: as for `judge`.
        digest: of what gave the answers.
    """
    for one in metrics_per_slice(rows, config, schema):
        found = convert_metrics_proto_to_dict(convert_slice_metrics_to_proto(one, None))
        for figure in figures_of([found], digest):
            yield figure.model_copy(update={"payload": "tflite", "how": f"{figure.how}; {_HOW}"})


def _parity(subject: Subject, answers: Array, reference: Array, slices: Mapping[SliceKey, Array]) -> Iterator[Figure]:
    for key, chosen in slices.items():
        found = parity(reference[chosen], answers[chosen])
        for metric, value in found.figures().items():
            yield Figure(
                metric=metric,
                value=value,
                unit=PROFILED[metric].unit,
                payload="tflite",
                digest=subject.digest,
                slice={str(feature): _text(part) for feature, part in key},
                n=found.rows,
                against="saved_model",
                how=f"{_HOW}, against the SavedModel",
                why_not="" if value is not None else "the model predicts no class",
            )


def _unwell(subject: Subject, problem: str) -> Judged:
    """Nothing that a gate asks for is there, and each figure of parity says why."""
    figures = tuple(
        Figure(
            metric=metric,
            value=None,
            unit=PROFILED[metric].unit,
            payload="tflite",
            digest=subject.digest,
            against="saved_model",
            how=_HOW,
            why_not=problem,
        )
        for metric in ("max_abs_difference", "mean_abs_difference", "p99_abs_difference", "class_agreement")
    )
    return Judged(figures, problem)


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
