"""The watch directory and everything on the far side of it. Imports no TFX; the version store imports no TensorFlow."""
