"""A user's module whose hyperparameters can make a trial fail, or its process die."""

import os
import signal
import subprocess
import time
from pathlib import Path


def build_model(keras, features, hyperparameters):
    if hyperparameters["behaviour"] == "raises":
        raise ValueError("no such network")
    if hyperparameters["behaviour"] == "dies" and hyperparameters["units"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if hyperparameters["behaviour"] == "hangs":
        child = subprocess.Popen(["sleep", "600"])
        note = Path(hyperparameters["note"])
        note.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
        note.with_suffix(".new").rename(note)
        time.sleep(600)
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
