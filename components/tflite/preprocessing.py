"""What a device has to compute before it calls a `.tflite` file that takes transformed features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.trainer.preprocessing import Preprocessing

__all__ = ["before_calling"]


def before_calling(arguments: Mapping[str, Any], transform_dir: str) -> list[str]:
    """One sentence for each argument.

    Args:
        arguments: name to `tf.TensorSpec`.
        transform_dir: tf.Transform's SavedModel.
    """
    preprocessing = Preprocessing(transform_dir)
    return [
        f"{name}: {spec.dtype.name} of shape {[int(size) for size in spec.shape[1:]]}, made by preprocessing_fn of "
        f"{', '.join(sorted(preprocessing.inputs_of([name]))) or 'no column'}"
        for name, spec in sorted(arguments.items())
    ]
