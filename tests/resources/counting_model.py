"""A user's module for the tiny data set whose metrics count rows: those with either label, as every answer is positive."""

from tests.resources import tiny_model


def build_model(keras, features, hyperparameters):
    model = tiny_model.build_model(keras, features, hyperparameters)
    model.compile(
        optimizer=model.optimizer,
        loss=model.loss,
        metrics=[
            keras.metrics.TruePositives(thresholds=0.0, name="ones"),
            keras.metrics.FalsePositives(thresholds=0.0, name="zeros"),
        ],
    )
    return model
