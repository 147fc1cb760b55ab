"""What a user's model module holds: two plain functions, described as Protocols.

Example of a whole module::

    def preprocessing_fn(inputs):
        return {"size": tft.scale_to_z_score(inputs["size"]), "label": inputs["label"]}

    def build_model(keras, features, hyperparameters):
        inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
        ...
        model.compile(...)
        return model
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

__all__ = ["BuildModel", "Feature", "PreprocessingFn", "raised"]


@dataclass(frozen=True)
class Feature:
    """One transformed feature, as the model sees it.

    Attributes:
        name: its key in what `preprocessing_fn` returned.
        dtype: `float32`, `int64` or `string`.
        shape: of one example; a scalar arrives as `(1,)`.
        cardinality: for an integer feature made by a vocabulary or by buckets, the number of values it can take
            (all are in `[0, cardinality)`); else None. Read from the schema that tf.Transform wrote.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    cardinality: int | None = None


class PreprocessingFn(Protocol):
    """`preprocessing_fn(inputs)`: raw features to transformed features, as tf.Transform has it.

    `inputs` maps each feature of the data schema to a dense tensor of shape `[batch, …]` where the schema gives it a
    shape, else to a SparseTensor of shape `[batch, ?]`. What it returns must hold the label under `model.label`; all
    else that it returns is fed to the model.
    """

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]: ...


class BuildModel(Protocol):
    """`build_model(keras, features, hyperparameters)`: a compiled Keras model.

    `keras` is the Keras to use (the configuration's `training.backend`); nothing may use TensorFlow's own alias.
    `features` holds every transformed feature but the label. The model takes a dict of tensors of shape
    `[batch, *feature.shape]` by feature name and returns one tensor of shape `[batch, outputs]`.
    `hyperparameters` is `model.hyperparameters` of the configuration.
    """

    def __call__(
        self, keras: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]
    ) -> Any: ...


def raised(function: Callable[..., Any], error: BaseException) -> str:
    """What a function of a user's module raised, and at which line of that module: `raised KeyError: 'fare' (m.py, line 3)`."""
    text = f"raised {type(error).__name__}: {error}"
    try:
        file = inspect.getfile(function)
    except TypeError:  # a callable that is no function
        return text
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f"{text} ({file}, line {lines[-1]})" if lines else text
