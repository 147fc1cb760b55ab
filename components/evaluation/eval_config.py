"""The metrics and slices that the gates need, as TFMA's EvalConfig. It carries no thresholds: the Gate alone judges."""

from __future__ import annotations

from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from schemas.config import GatesConfig
from schemas.decision import Payload
from schemas.metrics import BINARY, QUALITY

__all__ = ["CANDIDATE", "CHAMPION", "KERAS_MODULE", "LABEL", "eval_config", "metrics_of", "slices_of"]

CANDIDATE = "candidate"
CHAMPION = "champion"
LABEL = "mean_label"
"""Tells slices in which only one class occurs."""
KERAS_MODULE = "tf_keras.metrics"


def metrics_of(gates: GatesConfig, payload: Payload = "saved_model") -> list[str]:
    """The quality metrics that the gates on a payload name, and the one to optimize; in order and once each."""
    names = [gates.optimize.metric] if gates.optimize else []
    names += [gate.metric for gate in gates.satisfy if gate.metric in QUALITY and gate.payload == payload]
    return list(dict.fromkeys(names))


def slices_of(gates: GatesConfig, payload: Payload = "saved_model") -> list[tuple[str, ...]]:
    """The feature combinations by which gates on a payload slice, in order and once each.

    Of the SavedModel those of its quality alone: the Profiler slices parity by itself.
    """
    own = [gate for gate in gates.satisfy if gate.slice_by and gate.payload == payload]
    return list(dict.fromkeys(gate.slice_by for gate in own if payload == "tflite" or gate.metric in QUALITY))


def eval_config(gates: GatesConfig, label: str, payload: Payload = "saved_model") -> Any:
    """The evaluation of candidate and champion on the whole split and on every slice that a gate names.

    Args:
        gates: the configuration's section.
        label: name of the transformed feature that is the label.
        payload: whose gates count.

    Returns:
        A `tfma.EvalConfig`.
    """
    models = [
        config_pb2.ModelSpec(
            name=name,
            model_type="tf_generic",
            signature_name="serving_examples",
            preprocessing_function_names=["transform_features"],
            label_key=label,
            is_baseline=name == CHAMPION,
        )
        for name in (CANDIDATE, CHAMPION)
    ]
    slices = [
        config_pb2.SlicingSpec(),
        *(config_pb2.SlicingSpec(feature_keys=keys) for keys in slices_of(gates, payload)),
    ]
    names = metrics_of(gates, payload)
    if LABEL not in names and BINARY.intersection(names):
        names.append(LABEL)
    metrics = [config_pb2.MetricConfig(class_name="ExampleCount"), *map(_metric, names)]
    return config_pb2.EvalConfig(
        model_specs=models, slicing_specs=slices, metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)]
    )


def _metric(name: str) -> Any:
    metric = QUALITY[name]
    if metric.library == "keras":
        return config_pb2.MetricConfig(
            class_name=metric.class_name, module=KERAS_MODULE, config=f'{{"name": "{name}"}}'
        )
    return config_pb2.MetricConfig(class_name=metric.class_name, config=f'{{"name": "{name}"}}')
