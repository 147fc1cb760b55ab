"""Whether a model's answers can be held against its label at all. Imports neither TensorFlow nor TFX."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import Fault, UserModuleError

__all__ = ["check_answers", "why_ill"]

Array = npt.NDArray[Any]

_log = logging.getLogger(__name__)


def check_answers(
    labels: Mapping[str, Array], predictions: Mapping[str, Array], *, all_classes_known: bool = False
) -> None:
    """Makes sure that each model answers with what its label is compared with.

    Rows of a class that a model does not know, as of one that is newer than the champion, are answered wrongly; that is
    no fault of the model unless they are more than the others.

    Args:
        labels: by model, shape [rows, ...].
        predictions: by model, shape [rows, outputs].
        all_classes_known: whether there must be no such row, since some metric fails on one.

    Raises:
        UserModuleError: a model gives several values for each row, and the label is neither as many values nor the
            number of one of them.
    """
    for name, answers in predictions.items():
        fault = _misfit(labels[name], answers, all_classes_known=all_classes_known)
        if fault is not None:
            raise UserModuleError(f"the model {name}".rstrip(), [fault])


def why_ill(label: Array) -> str:
    """Why a model's answers are no numbers, as far as its label, shape [rows, ...], tells."""
    if label.dtype.kind == "f":
        bad = int((~np.isfinite(label)).reshape(len(label), -1).any(axis=1).sum())
        if bad:
            return f"so are {bad:,} labels, as preprocessing_fn gives them"
    return "its training diverged"


def _misfit(label: Array, answers: Array, *, all_classes_known: bool) -> Fault | None:
    width, wanted = answers[:1].size, label[:1].size
    if width == wanted or not width or not wanted:
        return None
    told = f"answers {_counted(width)} for each row, and the label has {_counted(wanted)}"
    if wanted > 1:
        return Fault("build_model", told, f"{_counted(wanted)} in the last layer")
    if label.dtype.kind not in "iufb":
        return Fault("build_model", told, f"the number of a class, 0 to {width - 1}, for a label", "text")
    flat = label.reshape(-1)
    whole = np.isfinite(flat) & (flat == np.floor(flat))
    outside = flat[~((flat >= 0) & (flat < width) & whole)]
    if not outside.size:
        return None
    if whole.all() and 2 * outside.size <= flat.size and not all_classes_known:
        told = "%s of %s labels are of no class of the %s that a model knows, such as %.6g: it cannot be right there"
        _log.warning(told, f"{outside.size:,}", f"{flat.size:,}", width, outside[0])
        return None
    expected = f"one value in the last layer, or the number of a class, 0 to {width - 1}, for a label"
    return Fault("build_model", told, expected, f"{outside.size:,} labels such as {outside[0]:.6g}")


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values} values"
