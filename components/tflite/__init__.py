"""The ladder of `.tflite` files: made of a SavedModel, run as a device would, measured, and the one that ships chosen."""

__all__ = [
    "arena",
    "convert",
    "cost",
    "edge",
    "evaluator",
    "exporter",
    "interpret",
    "measure",
    "parity",
    "preprocessing",
    "quality",
    "representative",
    "select",
]
