"""A user's module for the tiny data set: what is done with gradients needs those of all replicas. Its metrics count rows."""

from tests.resources import counting_model


def build_model(keras, features, hyperparameters):
    model = counting_model.build_model(keras, features, hyperparameters)
    model.compile(
        optimizer=keras.optimizers.SGD(hyperparameters.get("learning_rate", 0.01), momentum=0.9, global_clipnorm=0.2),
        loss=model.loss,
        metrics=[
            keras.metrics.TruePositives(thresholds=0.0, name="ones"),
            keras.metrics.FalsePositives(thresholds=0.0, name="zeros"),
        ],
    )
    return model
