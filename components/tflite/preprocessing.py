"""What a device has to compute before it calls a `.tflite` file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.trainer.preprocessing import Preprocessing
from components.trainer.requests import MISSING_INT, request_name

__all__ = ["before_calling", "before_calling_raw"]


def before_calling(arguments: Mapping[str, Any], transform_dir: str) -> list[str]:
    """One sentence for each transformed feature.

    Args:
        arguments: name to `tf.TensorSpec`.
        transform_dir: tf.Transform's SavedModel.
    """
    preprocessing = Preprocessing(transform_dir)
    return [
        f"{name}: {spec.dtype.name} of shape {[int(size) for size in spec.shape[1:]]}, made by preprocessing_fn of "
        f"{', '.join(sorted(preprocessing.made_of(name))) or 'no column'}"
        for name, spec in sorted(arguments.items())
    ]


def before_calling_raw(arguments: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """One sentence for each raw column: nothing is computed, but a value may be missing.

    Args:
        arguments: name to `tf.TensorSpec`.
        spec: parsing specification of the raw features: feature name to FixedLen or VarLen.
    """
    optional = {request_name(name) for name, form in spec.items() if not hasattr(form, "shape")}
    told = []
    for name, tensor in sorted(arguments.items()):
        missing = "NaN" if tensor.dtype.is_floating else str(MISSING_INT)
        told.append(
            f"{name}: {tensor.dtype.name} of shape {[int(size) for size in tensor.shape[1:]]}, as it stands in the data"
            + (f"; {missing} where it is missing" if name in optional else "")
        )
    return told
