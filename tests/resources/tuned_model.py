"""A user's module whose hyperparameters can make a trial fail, or its process die."""

import os
import signal


def build_model(keras, features, hyperparameters):
    if hyperparameters["behaviour"] == "raises":
        raise ValueError("no such network")
    if hyperparameters["behaviour"] == "dies" and hyperparameters["units"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    hidden = keras.layers.Concatenate()(list(inputs.values()))
    hidden = keras.layers.Dense(hyperparameters["units"], activation="tanh")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(0.05),
        loss="binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="binary_accuracy")],
    )
    return model
