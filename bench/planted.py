"""SavedModels with a fault planted in them, made of a sound one: what a gate on a payload has to find."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["plant"]

_SIDE = 24


def plant(
    source: Path,
    target: Path,
    *,
    delay: int = 0,
    ballast_mb: float = 0.0,
    scale: Mapping[str, float] | None = None,
    nan: bool = False,
) -> Path:
    """Writes a SavedModel that answers as another does, but for a fault; a process that does it has to know TensorFlow.

    Args:
        source: the sound SavedModel.
        target: folder to write.
        delay: turns of a loop of matrix products that `serving_default` waits for.
        ballast_mb: size of a variable that nothing needs.
        scale: raw feature to a factor by which `serving_default` and `model_features` multiply it: skewed preprocessing.
        nan: whether every prediction of `serving_default` is NaN.

    Returns:
        `target`.
    """
    import tensorflow as tf

    module = tf.Module()
    module.sound = tf.saved_model.load(str(source))
    if ballast_mb:
        noise = np.random.default_rng(0).standard_normal(int(ballast_mb * 1e6 / 4)).astype(np.float32)
        module.ballast = tf.Variable(noise)
    sound = module.sound.signatures
    signatures = dict(sound.items())
    (specs,) = (sound["serving_default"].structured_input_signature[1],)

    def asked(raw: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value * (scale or {}).get(name, 1.0) if name in (scale or {}) else value
            for name, value in raw.items()
        }

    @tf.function(input_signature=[specs])
    def serving_default(raw: Mapping[str, Any]) -> dict[str, Any]:
        outputs = sound["serving_default"](**asked(raw))["outputs"]
        if delay:
            outputs += tf.minimum(_wait(tf, outputs, delay), 0.0)  # 0, which no optimizer can know
        return {"outputs": outputs * float("nan") if nan else outputs}

    @tf.function(input_signature=[specs])
    def model_features(raw: Mapping[str, Any]) -> dict[str, Any]:
        features: dict[str, Any] = sound["model_features"](**asked(raw))
        return features

    signatures["serving_default"] = serving_default
    if scale:
        signatures["model_features"] = model_features
    tf.saved_model.save(module, str(target), signatures=signatures)
    return target


def _wait(tf: Any, outputs: Any, turns: int) -> Any:
    """A number that is not negative and that takes a while."""
    start = tf.fill([_SIDE, _SIDE], tf.reduce_mean(tf.abs(outputs)) / _SIDE)
    (product,) = tf.while_loop(
        lambda _: True, lambda matrix: (tf.matmul(matrix, matrix) / _SIDE,), (start,), maximum_iterations=turns
    )
    return tf.reduce_mean(tf.abs(product))
