"""Benchmarks: what a run costs against stock TFX, and how good the model is against a baseline. Figures in RESULTS.md."""

__all__ = ["baseline", "compare", "ours", "process", "results", "stock_tfx"]
