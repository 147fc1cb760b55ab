"""Whether an evaluation can be done here: `Unsupported` says why not."""

from __future__ import annotations

from typing import Any

__all__ = ["Unsupported", "check_config"]


class Unsupported(Exception):  # noqa: N818  # no fault: the evaluation goes another way
    """The evaluation needs TFMA on Beam; the message is the reason."""


def check_config(eval_config: Any) -> None:
    """Makes sure that a `tfma.EvalConfig`, with its defaults filled in, asks for nothing but metrics per slice.

    Raises:
        Unsupported: it asks for more.
    """
    for spec in eval_config.model_specs:
        _check_model(spec)
    if eval_config.cross_slicing_specs:
        raise Unsupported("slices are compared with each other (cross_slicing_specs)")
    if any(spec.slice_keys_sql for spec in eval_config.slicing_specs):
        raise Unsupported("slices are given in SQL")
    if any(spec.query_key for spec in eval_config.metrics_specs):
        raise Unsupported("rows are grouped by a query_key")
    if eval_config.options.disabled_outputs.values:
        raise Unsupported("outputs are disabled")


def _check_model(spec: Any) -> None:
    if spec.model_type != "tf_generic":
        raise Unsupported(f"the type of a model is {spec.model_type or 'not given'}, not tf_generic")
    if not spec.signature_name or not spec.label_key:
        raise Unsupported("a model has no signature_name or no label_key")
    if not spec.preprocessing_function_names or any("@" in name for name in spec.preprocessing_function_names):
        raise Unsupported("features are not transformed by signatures of the model")
    others = ("label_keys", "prediction_key", "prediction_keys", "example_weight_key", "example_weight_keys")
    given = [name for name in others if getattr(spec, name)]
    if spec.HasField("padding_options"):
        given.append("padding_options")
    if given:
        raise Unsupported(f"a model has {', '.join(given)}")
