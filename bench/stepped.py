"""The taxi model, trained a given number of steps: a user module like any other, for comparisons at equal training.

A pipeline counts training in epochs; stock TFX's template and the hand-written script count it in steps. Here one epoch is
`model.hyperparameters.steps` steps, over the rows as often as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pipeline.models import taxi
from pipeline.models.taxi import preprocessing_fn
from schemas.user_model import Feature

__all__ = ["build_model", "preprocessing_fn"]


def build_model(keras: ModuleType, features: Mapping[str, Feature], hyperparameters: Mapping[str, Any]) -> Any:
    """The taxi model, compiled; an epoch of its `fit` has `hyperparameters["steps"]` batches."""
    settings = dict(hyperparameters)
    steps = settings.pop("steps")
    whole = taxi.build_model(keras, features, settings)

    class Stepped(keras.Model):  # type: ignore[name-defined]
        def fit(self, x: Any, **options: Any) -> Any:
            return super().fit(x.repeat().take(steps), **options)

    model = Stepped(inputs=whole.inputs, outputs=whole.outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(whole.optimizer.learning_rate.numpy()),
        loss=whole.loss,
        metrics=[keras.metrics.AUC(name="auc"), keras.metrics.BinaryAccuracy(name="binary_accuracy")],
    )
    return model
