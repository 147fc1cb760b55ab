"""Writes a trained model as a SavedModel with three signatures, preprocessing included.

- `serving_default`: raw features by name, one tensor of shape `[batch]` each. Where the data schema lets a feature be
  missing, `""`, NaN or the smallest int64 says that it is.
- `serving_examples`: `examples`, serialized tf.Examples `[batch]`.
- `transform_features`: `examples` to the transformed features, the label among them where the examples hold what it is
  made of.

The first two return `outputs`, the model's output `[batch, k]`. Only the raw features that the model's features are
made of are asked for: what feeds the label alone is not. A name that TensorFlow does not take as it is has `_` in place
of what it does not take (`mean radius` is asked for as `mean_radius`), and begins with `f` where it would begin with no
letter (`2nd` is asked for as `f2nd`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import tensorflow as tf
from tensorflow_transform import graph_tools, tf2_utils
from tensorflow_transform.tf_metadata import schema_utils

from components.trainer.inputs import Layout
from schemas.errors import DataError

__all__ = ["MISSING_INT", "raw_spec_of", "request_names", "save", "serving_features"]

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]")

MISSING_INT = tf.int64.min
"""Says "missing" for an integer feature in a raw request."""


def raw_spec_of(schema: Any) -> dict[str, Any]:
    """Parsing specification of the raw features of a data schema: feature name to FixedLen or VarLen."""
    return dict(schema_utils.schema_as_feature_spec(schema).feature_spec)


def serving_features(transform_dir: str, needed: set[str]) -> set[str]:
    """Names of the raw features that the transformed features `needed` are computed from.

    Args:
        transform_dir: tf.Transform's SavedModel.
        needed: names of transformed features.
    """
    function = tf.saved_model.load(transform_dir).transform_fn
    if hasattr(function, "concrete_functions"):
        function = function.concrete_functions[0]
    graph = function.graph
    inputs = tf2_utils.get_structured_inputs_from_func_graph(graph)
    outputs = tf.nest.pack_sequence_as(graph.structured_outputs, graph.outputs, expand_composites=True)
    wanted = {name: tensor for name, tensor in outputs.items() if name in needed}
    return set(graph_tools.get_dependent_inputs(graph, inputs, wanted))


def request_names(features: Iterable[str]) -> dict[str, str]:
    """The name under which a request gives each raw feature.

    Raises:
        DataError: where two features would have the same name.

    >>> request_names(["mean radius", "fare"])
    {'mean radius': 'mean_radius', 'fare': 'fare'}
    """
    names: dict[str, str] = {}
    for feature in features:
        name = _NOT_A_NAME.sub(_in_ascii, feature)
        name = name if name[:1].isalpha() else f"f{name}"  # TensorFlow would rename it silently
        clash = next((other for other, taken in names.items() if taken == name), None)
        if clash is not None:
            raise DataError(
                f"features {clash!r} and {feature!r}",
                f"would both be asked for as {name!r} by the serving signature",
                remedy="Rename one of the columns.",
            )
        names[feature] = name
    return names


def _in_ascii(match: re.Match[str]) -> str:
    """`_` for a sign that TensorFlow does not take; a letter of another alphabet by its number, so that none are alike."""
    letter = match.group()
    return "_" if letter.isascii() else f"u{ord(letter):x}"


def save(
    keras: ModuleType, model: Any, transformed: Any, layout: Layout, raw_spec: Mapping[str, Any], destination: str
) -> dict[str, str]:
    """Saves the model with its preprocessing.

    Args:
        keras: the Keras that the model is of.
        model: trained.
        transformed: the `tft.TFTransformOutput` that its features come from.
        layout: of the transformed examples.
        raw_spec: of the raw features, from `raw_spec_of`.
        destination: folder to write.

    Returns:
        The raw features that `serving_default` takes, sorted, and the name that each has in a request.
    """
    asked = sorted(serving_features(transformed.transform_savedmodel_dir, set(layout.features)))
    module = _Servable(_without_training_state(keras, model), transformed.transform_features_layer(), layout)
    serving_spec = {name: raw_spec[name] for name in asked}
    names = request_names(asked)
    signatures = {
        "serving_default": _raw_signature(module, serving_spec, names),
        "serving_examples": _examples_signature(module, serving_spec),
        "transform_features": _transform_signature(module, dict(raw_spec)),
    }
    tf.saved_model.save(module, destination, signatures=signatures)
    return names


class _Servable(tf.Module):
    """Holds the preprocessing and the model, so that tables and weights are saved with the signatures."""

    def __init__(self, model: Any, transform: Any, layout: Layout) -> None:
        super().__init__()
        self.model = model
        self.transform = transform
        self._names = sorted(layout.features)

    def predict(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        features = self.transform(dict(raw))
        shaped = {name: _as_model_input(features[name]) for name in self._names}
        return {"outputs": self.model(shaped, training=False)}


def _without_training_state(keras: ModuleType, model: Any) -> Any:
    """The same layers without optimizer and metrics, whose variables would ship otherwise (Adam's are two thirds).

    A subclassed model has no graph of layers to take; it ships as it is.
    """
    if not getattr(model, "inputs", None):
        return model
    return keras.Model(inputs=model.input, outputs=model.output)


def _raw_signature(module: _Servable, spec: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    specs = {
        names[feature]: tf.TensorSpec([None, *_inner_shape(form)], form.dtype, name=names[feature])
        for feature, form in spec.items()
    }

    @tf.function(input_signature=[specs])
    def serving_default(raw: Mapping[str, Any]) -> dict[str, Any]:
        return module.predict(
            {feature: _as_parsed(raw[names[feature]], form, names[feature]) for feature, form in spec.items()}
        )

    return serving_default


def _examples_signature(module: _Servable, spec: Mapping[str, Any]) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_examples(examples: Any) -> dict[str, Any]:
        return module.predict(tf.io.parse_example(examples, spec))

    return serving_examples


def _transform_signature(module: _Servable, spec: Mapping[str, Any]) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(examples: Any) -> dict[str, Any]:
        transformed = module.transform(tf.io.parse_example(examples, spec))
        return {name: _as_model_input(tensor) for name, tensor in transformed.items()}

    return transform_features


def _inner_shape(feature: Any) -> list[int | None]:
    """Shape of one raw value in a request: scalars where the schema says one value, or at most one."""
    if isinstance(feature, tf.io.FixedLenFeature) and list(feature.shape) not in ([], [1]):
        return list(feature.shape)
    return []


def _as_parsed(tensor: Any, feature: Any, name: str) -> Any:
    """A request's tensor in the form that parsing a tf.Example would give; refuses a required value that is missing."""
    if isinstance(feature, tf.io.FixedLenFeature):
        complete = tf.reduce_all(_is_present(tensor))
        with tf.control_dependencies([tf.debugging.Assert(complete, [f"{name} is required, and a row lacks it"])]):
            tensor = tf.identity(tensor)
        return tf.expand_dims(tensor, -1) if list(feature.shape) == [1] else tensor
    present = _is_present(tensor)
    rows = tf.where(present)
    shape = tf.stack([tf.shape(tensor, tf.int64)[0], tf.constant(1, tf.int64)])
    indices = tf.concat([rows, tf.zeros_like(rows)], axis=1)
    return tf.SparseTensor(indices, tf.boolean_mask(tensor, present), shape)


def _is_present(tensor: Any) -> Any:
    if tensor.dtype == tf.string:
        return tf.not_equal(tensor, "")
    if tensor.dtype.is_floating:
        return tf.logical_not(tf.math.is_nan(tensor))
    return tf.not_equal(tensor, MISSING_INT)


def _as_model_input(tensor: Any) -> Any:
    return tf.expand_dims(tensor, -1) if tensor.shape.rank == 1 else tensor
