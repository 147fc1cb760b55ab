"""Training: what TFX's Trainer node calls, from transformed examples to a SavedModel with three signatures."""

__all__ = ["export", "fit", "inputs", "run"]
