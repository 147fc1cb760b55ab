"""Quality: the gates of a configuration as an evaluation of TensorFlow Model Analysis, and its results as figures."""

__all__ = ["eval_config", "figures"]
