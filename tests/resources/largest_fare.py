"""A user's module whose analysis only Beam can do, by functions that the workers do not have: it lies beside its configuration."""

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.models import taxi
from pipeline.models.taxi import build_model

__all__ = ["build_model", "preprocessing_fn"]


def largest_of(arrays):
    return float(arrays[0].max())


@beam.ptransform_fn
def _largest(values):
    return values | beam.Map(largest_of) | beam.CombineGlobally(max)


def preprocessing_fn(inputs):
    """The taxi pipeline's, on fares that are at most the largest one that was learnt from."""
    fare = inputs["fare"]
    values = fare.values if isinstance(fare, tf.SparseTensor) else tf.reshape(fare, [-1])
    (largest,) = tft.experimental.ptransform_analyzer([values], _largest(), [tf.float32], [[]])
    capped = tf.minimum(values, largest)
    fare = fare.with_values(capped) if isinstance(fare, tf.SparseTensor) else tf.reshape(capped, tf.shape(fare))
    return taxi.preprocessing_fn({**inputs, "fare": fare})
