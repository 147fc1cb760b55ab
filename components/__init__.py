"""Steps of the graph that TFX lacks, or has with a sharp edge. Importing this package imports neither TFX nor TensorFlow."""
