"""Transform: tf.Transform's analysis in this process, a batch of columns at a time, without Beam.

`tensorflow_transform` draws a graph of analyzer nodes and leaves it to Beam to run them. Here the same nodes, combiners
and SavedModels are run over batches of the examples (`analyze`). What is not supported is handed to stock TFX (`stock`),
which writes the same artifact.
"""

__all__ = [
    "analyze",
    "cache",
    "component",
    "executor",
    "operations",
    "records",
    "stock",
    "trace",
    "vocabulary",
]
