"""A small model, its rows, and a training of it by Keras' own `fit` or by ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

BATCH, ROWS, HELD_OUT = 8, 61, 21


def some_rows(count: int, seed: int) -> tf.data.Dataset:
    values = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    labels = (values.sum(axis=1, keepdims=True) > 0.2).astype(np.int64)
    return tf.data.Dataset.from_tensor_slices(({"x": values}, labels)).batch(BATCH)


def small_model(library: Any) -> Any:
    """Its optimizer, its losses and its layers do whatever they may do in a step."""
    library.utils.set_random_seed(1)
    given = {"x": library.Input((3,), name="x")}
    wide = library.layers.Dense(4, kernel_regularizer=library.regularizers.L2(0.01))(given["x"])
    hidden = library.layers.Activation("tanh")(library.layers.BatchNormalization()(wide))
    model = library.Model(given, library.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        library.optimizers.Adam(0.1, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5),
        "binary_crossentropy",
        loss_weights=[0.5],
        metrics=[
            library.metrics.MeanSquaredError(name="mse"),
            library.metrics.TruePositives(thresholds=0.0, name="ones"),
        ],
    )
    return model


def fit(trained: Any, callbacks: list[Any], *, epochs: int = 3, in_train: bool = False) -> dict[str, list[float]]:
    """The curve."""
    train = some_rows(ROWS, 2)
    history: dict[str, list[float]] = trained.fit(
        train.repeat(epochs) if in_train else train,
        validation_data=some_rows(HELD_OUT, 3),
        initial_epoch=0,
        epochs=epochs,
        steps_per_epoch=int(train.cardinality()) if in_train else None,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    ).history
    return history


def own_fit(library: Any, callbacks: list[Any] | None = None, *, epochs: int = 3) -> tuple[Any, dict[str, list[float]]]:
    """The model, and the curve."""
    library.backend.clear_session()
    model = small_model(library)
    return model, fit(model, callbacks or [], epochs=epochs)


def told_of(library: Any, *, stop: bool = False) -> Any:
    """A callback that notes what it is told, and ends the training at the first step where that is asked for."""

    class Told(library.callbacks.Callback):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[int] = []
            self.ends: list[str] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps.append(batch + 1)
            self.model.stop_training = self.model.stop_training or stop

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.ends.append(f"epoch {epoch}")

        def on_train_end(self, logs: Any = None) -> None:
            self.ends.append("train")

    return Told()


def weighing_model(library: Any) -> Any:
    """One that trains in a step of its own: rows count twice where the label is 1, and the share of those is a figure."""

    class Weighing(library.Model):  # type: ignore[misc, name-defined]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.share = library.metrics.Mean(name="share")

        def train_step(self, data: Any) -> Any:
            features, label = data
            weights = 1.0 + tf.cast(label[:, 0], tf.float32)
            with tf.GradientTape() as tape:
                answers = self(features, training=True)
                loss = self.compute_loss(features, label, answers, weights)
            self.share.update_state(label)
            own = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, own), own, strict=True))
            return {**self.compute_metrics(features, label, answers, weights), "share": self.share.result()}

    library.utils.set_random_seed(1)
    given = {"x": library.Input((3,), name="x")}
    model = Weighing(inputs=given, outputs=library.layers.Dense(1, activation="sigmoid")(given["x"]))
    model.compile(
        library.optimizers.Adam(0.1),
        "binary_crossentropy",
        weighted_metrics=[library.metrics.MeanSquaredError(name="mse")],
    )
    return model
