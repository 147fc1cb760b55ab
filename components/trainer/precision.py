"""Mixed precision: layers compute in 16 bits, weights and answers stay in 32, and what ships computes in 32 again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import tensorflow as tf

from components.trainer.inputs import Layout
from schemas.errors import Fault, UserModuleError
from schemas.strategies import FLOAT32

__all__ = ["answer_in_float32", "policy"]


@contextlib.contextmanager
def policy(keras: ModuleType, precision: str) -> Iterator[None]:
    """Layers made in the block compute in a precision (`float32`, `bfloat16`, `float16`); their weights are float32.

    For float16, whatever optimizer a model is compiled with in the block scales the loss.
    """
    if precision == FLOAT32:
        yield
        return
    if keras.__name__ == "tf_keras":
        read, write = keras.mixed_precision.global_policy, keras.mixed_precision.set_global_policy
    else:
        read, write = keras.config.dtype_policy, keras.config.set_dtype_policy
    before = read()
    write(f"mixed_{precision}")
    try:
        yield
    finally:
        write(before)


def answer_in_float32(where: str, keras: ModuleType, model: Any, layout: Layout) -> None:
    """Has the layers that answer compute in float32: 16 bits would make many answers equal, and a loss of them coarse.

    Args:
        where: the user's module, for the error.
        keras: of the model.
        model: built and compiled under `policy`.
        layout: of its features.

    Raises:
        UserModuleError: the model still answers in another precision.
    """
    for layer in _answering(keras, model):
        if keras.__name__ == "tf_keras":
            layer._set_dtype_policy(FLOAT32)  # noqa: SLF001 - tf_keras has no other way to change a layer's precision
        else:
            layer.dtype_policy = FLOAT32
    got = model(_nothing(layout), training=False).dtype
    name = got.name if isinstance(got, tf.DType) else str(got)
    if name != FLOAT32:
        raise UserModuleError(
            where,
            [
                Fault(
                    "build_model",
                    "returned a model whose answers are not float32 under training.mixed_precision",
                    "a last layer with dtype='float32', which does no harm without mixed precision",
                    name,
                )
            ],
        )


def _answering(keras: ModuleType, model: Any) -> list[Any]:
    """The layers that make the outputs; none of a subclassed model, which does not tell."""
    found = []
    for tensor in getattr(model, "outputs", None) or []:
        layer = tensor._keras_history[0]  # noqa: SLF001 - both versions of Keras keep it there
        if isinstance(layer, keras.Model):
            found += _answering(keras, layer)
        elif isinstance(layer, keras.layers.Layer):
            found.append(layer)
    return found


def _nothing(layout: Layout) -> dict[str, Any]:
    """One row of zeros, or of empty texts."""
    return {name: tf.zeros([1, *feature.shape], feature.dtype) for name, feature in layout.features.items()}
