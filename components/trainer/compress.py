"""Makes a trained model smaller by training it on: quantization-aware, pruned, or with clustered weights. tf_keras only.

The float model is trained as always. Then the layers that carry most of the weights are wrapped by
tensorflow-model-optimization, the model is trained a few epochs more, and what was promised is looked for in the weights:
that library's own schedule may never come to the point of pruning, and says nothing then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from schemas.config import ClusteringConfig, PruningConfig, TFLiteConfig
from schemas.errors import SatisficeError, shorten

__all__ = ["Compressed", "compress", "compression_of", "wanted"]

_EPOCHS_SHARE = 3
_LEARNING_RATE_SHARE = 0.1
_PRUNED_BY = 0.7
_PRUNING_ROUNDS = 50
_TOLERANCE = 0.005
_WEIGHTY = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "Conv2DTranspose")
_QUANTIZABLE = ("Dense", "Conv2D", "DepthwiseConv2D")


@dataclass(frozen=True)
class Compressed:
    """A model that was trained on.

    Attributes:
        model: without what the training needed, but with the ranges of activations where it is quantization-aware.
        record: plain JSON values for the lineage: what was done, to which layers, what it reached, the metrics on the
            validation split before and after.
    """

    model: Any
    record: dict[str, Any]


def wanted(tflite: TFLiteConfig | None) -> bool:
    """Whether a configuration asks for any of it."""
    return bool(tflite and (tflite.quantization_aware or tflite.pruning or tflite.clustering))


def compression_of(tflite: TFLiteConfig | None) -> TFLiteConfig | None:
    """The part of the section that training depends on: two that differ elsewhere train the same model."""
    if tflite is None or not wanted(tflite):
        return None
    return TFLiteConfig(
        quantization_aware=tflite.quantization_aware, pruning=tflite.pruning, clustering=tflite.clustering
    )


def compress(
    keras: ModuleType,
    model: Any,
    tflite: TFLiteConfig,
    train: tf.data.Dataset,
    validate: tf.data.Dataset,
    epochs: int,
) -> Compressed:
    """Trains a model on, in the way that the configuration asks for.

    Args:
        keras: must be tf_keras.
        model: trained and compiled; a functional or sequential model.
        tflite: which way.
        train, validate: batches of `(features, label)`, of known number.
        epochs: that the model was trained for; a third of them, and two at least, follow.

    Raises:
        SatisficeError: of Keras 3; the model cannot be wrapped; the promised sparsity or number of values is not there.
    """
    _check_kind(keras, model)
    started = time.monotonic()
    before = _metrics(model, validate)
    rounds = max(2, -(-epochs // _EPOCHS_SHARE))
    steps = max(1, int(train.cardinality())) * rounds
    with _legacy_keras():
        way = _way(tflite, steps)
        wrapped = _by_name(keras, way.wrap(keras, model), model)
        _compile_like(keras, wrapped, model, way.learning_rate_share)
        wrapped.fit(train, validation_data=validate, epochs=rounds, callbacks=way.callbacks(), shuffle=False, verbose=0)
        small = _by_name(keras, way.strip(wrapped), model)
    _compile_like(keras, small, model, 1.0)
    record = {
        "kind": way.kind,
        **way.reached(small),
        "epochs": rounds,
        "seconds": round(time.monotonic() - started, 3),
        "before": before,
        "after": _metrics(small, validate),
    }
    return Compressed(small, record)


def _check_kind(keras: ModuleType, model: Any) -> None:
    if keras.__name__ != "tf_keras":
        raise SatisficeError(
            "export.tflite",
            "quantization-aware training, pruning and clustering need tf_keras: tensorflow-model-optimization takes no "
            "model of Keras 3",
            got=f"training.backend with {keras.__name__}",
            remedy="Set training.backend to tf_keras, or take the key out; variants quantized after training need neither.",
        )
    if not getattr(model, "inputs", None):
        raise SatisficeError(
            "export.tflite",
            "a subclassed model has no layers that can be wrapped",
            expected="a functional or sequential model from build_model",
            got=type(model).__name__,
        )


# --- the ways ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """One way of making a model smaller.

    Attributes:
        wrap: the model with its layers wrapped for training.
        strip: the trained model without what the training needed.
        reached: what it came to, for the record; raises where that is not what was asked for.
    """

    kind: str
    learning_rate_share: float
    wrap: Callable[[ModuleType, Any], Any]
    strip: Callable[[Any], Any]
    reached: Callable[[Any], dict[str, Any]]
    callbacks: Callable[[], list[Any]] = list


def _way(tflite: TFLiteConfig, steps: int) -> _Way:
    if tflite.pruning:
        return _pruning(tflite.pruning, steps)
    if tflite.clustering:
        return _clustering(tflite.clustering)
    return _quantization()


def _quantization() -> _Way:
    from tensorflow_model_optimization.python.core.quantization.keras import quantize, quantize_wrapper

    def wrap(keras: ModuleType, model: Any) -> Any:
        try:
            return quantize.quantize_model(model)
        except (RuntimeError, TypeError, ValueError):  # it has a layer that does not quantize: integers, embeddings
            annotated = _cloned(keras, model, _QUANTIZABLE, quantize.quantize_annotate_layer)
            with _told("quantized"):
                return quantize.quantize_apply(annotated)

    def reached(model: Any) -> dict[str, Any]:
        layers = [layer.layer.name for layer in model.layers if isinstance(layer, quantize_wrapper.QuantizeWrapper)]
        if not layers:
            raise _missed("quantization_aware", "no layer of the model was made quantization-aware")
        return {"layers": layers}

    return _Way("quantization_aware", _LEARNING_RATE_SHARE, wrap, lambda model: model, reached)


def _pruning(config: PruningConfig, steps: int) -> _Way:
    from tensorflow_model_optimization.python.core.sparsity.keras import prune, pruning_callbacks, pruning_schedule

    # The library's own frequency of 100 steps never comes in a short training, which then prunes nothing.
    schedule = pruning_schedule.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=config.final_sparsity,
        begin_step=0,
        end_step=max(1, int(steps * _PRUNED_BY)),
        frequency=max(1, int(steps * _PRUNED_BY) // _PRUNING_ROUNDS),
    )

    def wrap(keras: ModuleType, model: Any) -> Any:
        with _told("pruned"):
            return _cloned(
                keras, model, _WEIGHTY, lambda layer: prune.prune_low_magnitude(layer, pruning_schedule=schedule)
            )

    def reached(model: Any) -> dict[str, Any]:
        kernels = _kernels(model)
        found = {name: round(float((kernel == 0).mean()), 4) for name, kernel in kernels.items()}
        zeros = sum(int((kernel == 0).sum()) for kernel in kernels.values())
        sparsity = zeros / max(1, sum(kernel.size for kernel in kernels.values()))
        if sparsity < config.final_sparsity - _TOLERANCE:
            raise _missed(
                "pruning", f"a sparsity of {sparsity:.3f} was reached in {steps} steps", f"{config.final_sparsity:.3f}"
            )
        return {"sparsity": round(sparsity, 4), "layers": found}

    return _Way("pruning", 1.0, wrap, prune.strip_pruning, reached, lambda: [pruning_callbacks.UpdatePruningStep()])


def _clustering(config: ClusteringConfig) -> _Way:
    from tensorflow_model_optimization.python.core.clustering.keras import cluster, cluster_config

    def wrapped(layer: Any) -> Any:
        return cluster.cluster_weights(
            layer,
            number_of_clusters=config.clusters,
            cluster_centroids_init=cluster_config.CentroidInitialization.KMEANS_PLUS_PLUS,
        )

    def wrap(keras: ModuleType, model: Any) -> Any:
        with _told("clustered"):
            return _cloned(keras, model, _WEIGHTY, wrapped)

    def reached(model: Any) -> dict[str, Any]:
        values = {name: len(np.unique(kernel)) for name, kernel in _kernels(model).items()}
        too_many = {name: count for name, count in values.items() if count > config.clusters}
        if too_many or not values:
            raise _missed("clustering", f"layers have {too_many or 'no weights'}", f"{config.clusters} values in each")
        return {"values": values}

    return _Way("clustering", _LEARNING_RATE_SHARE, wrap, cluster.strip_clustering, reached)


def _missed(key: str, what: str, expected: str = "") -> SatisficeError:
    return SatisficeError(
        f"export.tflite.{key}",
        f"the training did not do what was asked for: {what}",
        expected=expected,
        remedy="Train longer (training.epochs), or ask for less.",
    )


@contextlib.contextmanager
def _told(done: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        raise SatisficeError(
            "export.tflite",
            f"the model cannot be {done}: {shorten(' '.join(str(error).split()), 300)}",
            expected="a model of Keras' own layers with Dense or convolution among them",
        ) from error


# --- models -----------------------------------------------------------------------------------------------------------


def _cloned(keras: ModuleType, model: Any, kinds: tuple[str, ...], wrap: Callable[[Any], Any]) -> Any:
    """The same model with the layers of some kinds wrapped; their weights are those of the original."""

    def clone(layer: Any) -> Any:
        return wrap(layer) if type(layer).__name__ in kinds else layer

    if not any(type(layer).__name__ in kinds for layer in model.layers):
        raise ValueError(f"it has none of the layers {', '.join(kinds)}")
    return keras.models.clone_model(model, clone_function=clone)


def _by_name(keras: ModuleType, model: Any, original: Any) -> Any:
    """The model with the arguments that the original takes: the library hands back lists for dicts."""
    if not isinstance(original.input, Mapping):
        return model
    inputs = {tensor.name: tensor for tensor in model.inputs}
    by_key = {key: inputs[tensor.name] for key, tensor in original.input.items()}
    return keras.Model(inputs=by_key, outputs=model.outputs[0])


def _compile_like(keras: ModuleType, model: Any, original: Any, learning_rate_share: float) -> None:
    now = float(keras.backend.get_value(original.optimizer.learning_rate))  # whatever a schedule has come to
    settings = {**original.optimizer.get_config(), "learning_rate": now * learning_rate_share}
    optimizer = type(original.optimizer).from_config(settings)
    metrics = [type(one).from_config(one.get_config()) for one in original.metrics if one.name != "loss"]
    model.compile(optimizer=optimizer, loss=original.loss, metrics=metrics)


def _metrics(model: Any, validate: tf.data.Dataset) -> dict[str, float]:
    found = model.evaluate(validate, verbose=0, return_dict=True)
    return {f"val_{name}": round(float(value), 6) for name, value in found.items()}


def _kernels(model: Any) -> dict[str, Any]:
    """The large weights of the layers that are pruned or clustered, by layer."""
    kernels = {}
    for layer in model.layers:
        if type(layer).__name__ in _WEIGHTY:
            kernel = getattr(layer, "depthwise_kernel", None)
            kernels[layer.name] = (layer.kernel if kernel is None else kernel).numpy()
    return kernels


@contextlib.contextmanager
def _legacy_keras() -> Iterator[None]:
    """Keeps to this block what importing the library does to the environment: it chooses the Keras of TensorFlow's alias."""
    import os

    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
