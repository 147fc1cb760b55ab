"""A user's module for the tiny data set of the trainer's tests: logistic regression."""


def build_model(keras, features, hyperparameters):
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()(list(inputs.values())))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.get("learning_rate", 0.01)),
        loss="binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="binary_accuracy")],
    )
    return model
