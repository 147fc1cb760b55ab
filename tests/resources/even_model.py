"""A user's module for the tiny data set whose training has one best end: logistic regression. Its metrics count rows."""


def build_model(keras, features, hyperparameters):
    inputs = {name: keras.Input(feature.shape, name=name, dtype=feature.dtype) for name, feature in features.items()}
    scaled = keras.layers.Rescaling(1 / 20)(keras.layers.Concatenate()(list(inputs.values())))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(scaled))
    model.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.get("learning_rate", 0.01)),
        loss="binary_crossentropy",
        metrics=[
            keras.metrics.TruePositives(thresholds=0.0, name="ones"),
            keras.metrics.FalsePositives(thresholds=0.0, name="zeros"),
        ],
    )
    return model
