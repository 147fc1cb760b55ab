"""Writes a trained model as a SavedModel with five signatures, preprocessing included.

- `serving_default`: raw features by name, one tensor of shape `[batch]` each. Where the data schema lets a feature be
  missing, `""`, NaN or the smallest int64 says that it is.
- `serving_examples`: `examples`, serialized tf.Examples `[batch]`.
- `transform_features`: `examples` to the transformed features, the label among them where the examples hold what it is
  made of.
- `model_features`: what `serving_default` takes, to what it feeds the model, in the same graph: whoever compares it with
  what the model was trained on finds skew.
- `transformed`: the model's features as `transform_features` gives them, `[batch, …]` by name; no preprocessing stands
  before the model. What a device runs is made of it.

All but `transform_features` and `model_features` return `outputs`, the model's output `[batch, k]`. Of the raw features,
only those that the model's features are made of are asked for: what feeds the label alone is not. A name that TensorFlow
does not take as it is has `_` in place of what it does not take (`mean radius` is asked for as `mean_radius`), and begins
with `f` where it would begin with no letter (`2nd` is asked for as `f2nd`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import tensorflow as tf
from tensorflow.python.trackable.base import Trackable
from tensorflow_transform.tf_metadata import schema_utils

from components.trainer.inputs import Layout, as_column
from components.trainer.preprocessing import Preprocessing
from components.trainer.requests import MISSING_INT, request_names

__all__ = ["TRANSFORMED_SIGNATURE", "raw_spec_of", "save"]

TRANSFORMED_SIGNATURE = "transformed"


def raw_spec_of(schema: Any) -> dict[str, Any]:
    """Parsing specification of the raw features of a data schema: feature name to FixedLen or VarLen."""
    return dict(schema_utils.schema_as_feature_spec(schema).feature_spec)


def save(
    keras: ModuleType,
    model: Any,
    preprocessing: Preprocessing,
    layout: Layout,
    raw_spec: Mapping[str, Any],
    destination: str,
) -> dict[str, str]:
    """Saves the model with its preprocessing.

    Args:
        keras: the Keras that the model is of.
        model: trained.
        preprocessing: that its features come from.
        layout: of the transformed examples.
        raw_spec: of the raw features, from `raw_spec_of`.
        destination: folder to write.

    Returns:
        The raw features that `serving_default` takes, sorted, and the name that each has in a request.
    """
    asked = sorted(preprocessing.inputs_of(layout.features))
    module = _Servable(keras, _without_training_state(keras, model), preprocessing, layout)
    serving_spec = {name: raw_spec[name] for name in asked}
    names = request_names(asked)
    model_features = _features_signature(module, serving_spec, names)
    signatures = {
        "serving_default": _raw_signature(module, model_features),
        "serving_examples": _examples_signature(module, serving_spec),
        "transform_features": _transform_signature(module, dict(raw_spec)),
        "model_features": model_features,
        TRANSFORMED_SIGNATURE: _transformed_signature(module, layout),
    }
    tf.saved_model.save(module, destination, signatures=signatures)
    return names


class _Servable(tf.Module):
    """Holds the preprocessing and the model, so that tables and weights are saved with the signatures."""

    def __init__(self, keras: ModuleType, model: Any, preprocessing: Preprocessing, layout: Layout) -> None:
        super().__init__()
        self.tracked = [preprocessing.tracked, *_resources(keras, model)]
        self._model = _Untracked(model)
        self._preprocessing = preprocessing
        self._layout = layout

    def predict(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """The model's answers to what `features` gives."""
        return {"outputs": self._model.call(features)}

    def features(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What the model is fed for parsed raw features."""
        return self._transformed(raw, sorted(self._layout.features))

    def transformed(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """All the transformed features, the label among them."""
        return self._transformed(raw, sorted(self._layout.spec))

    def _transformed(self, raw: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
        return {name: as_column(tensor) for name, tensor in self._preprocessing(raw, names).items()}


class _Untracked:
    """A model out of sight of whatever looks for things to save.

    Keras would add a function, a description and a few objects for each of its layers, which nobody asks for; they take
    half of the time of saving.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def call(self, features: Mapping[str, Any]) -> Any:
        return self._model(features, training=False)


def _resources(keras: ModuleType, model: Any) -> list[Any]:
    """All that a function can hold of a model: variables, tables, files; whatever has a way into a SavedModel's graph.

    Of a Keras 3 variable that is the one of TensorFlow in it: saved as itself, it would be restored beside the one that the
    functions read, which TensorFlow Serving and whatever else loads into a session would find without a value.
    """
    way = Trackable._export_to_saved_model_graph  # noqa: SLF001 - the one mark that all of them have
    wrapping = getattr(keras, "Variable", ())  # tf_keras wraps none
    found = tf.train.TrackableView(model).descendants()
    return [
        one.value if isinstance(one, wrapping) else one
        for one in found
        if getattr(type(one), way.__name__, way) is not way
    ]


def _without_training_state(keras: ModuleType, model: Any) -> Any:
    """The same layers without optimizer and metrics, whose variables would ship otherwise (Adam's are two thirds).

    A subclassed model has no graph of layers to take; it ships as it is.
    """
    if not getattr(model, "inputs", None):
        return model
    return keras.Model(inputs=model.input, outputs=model.output)


def _features_signature(module: _Servable, spec: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    specs = {
        names[feature]: tf.TensorSpec([None, *_inner_shape(form)], form.dtype, name=names[feature])
        for feature, form in spec.items()
    }

    @tf.function(input_signature=[specs], autograph=False)
    def model_features(raw: Mapping[str, Any]) -> dict[str, Any]:
        return module.features(
            {feature: _as_parsed(raw[names[feature]], form, names[feature]) for feature, form in spec.items()}
        )

    return model_features


def _raw_signature(module: _Servable, model_features: Any) -> Any:
    @tf.function(input_signature=model_features.input_signature, autograph=False)
    def serving_default(raw: Mapping[str, Any]) -> dict[str, Any]:
        return module.predict(model_features(raw))

    return serving_default


def _examples_signature(module: _Servable, spec: Mapping[str, Any]) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def serving_examples(examples: Any) -> dict[str, Any]:
        return module.predict(module.features(tf.io.parse_example(examples, spec)))

    return serving_examples


def _transform_signature(module: _Servable, spec: Mapping[str, Any]) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def transform_features(examples: Any) -> dict[str, Any]:
        return module.transformed(tf.io.parse_example(examples, spec))

    return transform_features


def _transformed_signature(module: _Servable, layout: Layout) -> Any:
    specs = {
        name: tf.TensorSpec([None, *feature.shape], feature.dtype, name=name)
        for name, feature in sorted(layout.features.items())
    }

    @tf.function(input_signature=[specs])
    def transformed(features: Mapping[str, Any]) -> dict[str, Any]:
        return module.predict(features)

    return transformed


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
