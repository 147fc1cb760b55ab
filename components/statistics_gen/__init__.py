"""StatisticsGen: TensorFlow Data Validation's statistics of each split, from columns and without Beam."""

__all__ = ["component", "compute", "executor", "rows", "top_values"]
