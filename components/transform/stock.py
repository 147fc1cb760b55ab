"""Stock TFX's Transform on Beam, for what this package cannot do: the same artifact, more slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["transform"]


def transform(
    context: Any,
    input_dict: dict[str, list[Any]],
    output_dict: dict[str, list[Any]],
    exec_properties: Mapping[str, Any],
) -> None:
    """Does what `Transform` does, without statistics and without the analyzer cache.

    Args:
        context: of the executor, with the arguments of the Beam engine.
        input_dict, output_dict, exec_properties: of the executor.
    """
    from tfx.components.transform.executor import Executor

    properties = {
        "preprocessing_fn": exec_properties["preprocessing_fn"],
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
        "custom_config": "null",
    }
    Executor(context).Do(input_dict, output_dict, properties)
