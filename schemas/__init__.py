"""What every other package agrees on: configuration, errors, decisions. Imports no TensorFlow and no TFX."""

__all__ = ["availability", "config", "decision", "errors", "load", "metrics", "source_path", "user_model"]
