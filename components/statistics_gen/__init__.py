"""StatisticsGen: TensorFlow Data Validation's statistics of each split, from columns and without Beam."""

__all__ = ["component", "compute", "executor", "quantiles", "rows", "top_values"]
