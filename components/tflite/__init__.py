"""The ladder of `.tflite` files: made of a SavedModel, run as a device would, measured, and the one that ships chosen."""

__all__ = ["convert", "cost", "interpret", "parity", "quality", "representative", "select"]
