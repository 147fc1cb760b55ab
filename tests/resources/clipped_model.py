"""A user's module for the tiny data set: what is done with gradients needs those of all replicas, and those of the embedding
are rows of a table. The learning rate follows a schedule. Its metrics count rows.
"""

_LONGEST = 64
"""No word has so many letters."""


def build_model(keras, features, hyperparameters):
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    embedded = keras.layers.Flatten()(keras.layers.Embedding(_LONGEST, 3)(inputs["letters"]))
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([*inputs.values(), embedded]))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    rate = keras.optimizers.schedules.ExponentialDecay(hyperparameters.get("learning_rate", 0.01), 50, 0.9)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=0.2),
        loss="binary_crossentropy",
        metrics=[
            keras.metrics.TruePositives(thresholds=0.0, name="ones"),
            keras.metrics.FalsePositives(thresholds=0.0, name="zeros"),
        ],
    )
    return model
