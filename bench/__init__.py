"""Benchmarks: what a run costs against stock TFX and a hand-written script, and how good the model is. Figures in RESULTS.md."""

__all__ = [
    "bare",
    "baseline",
    "compare",
    "contenders",
    "data",
    "ingest",
    "judge",
    "ours",
    "payload",
    "plots",
    "process",
    "quality",
    "records",
    "render",
    "rerun",
    "results",
    "scale",
    "stepped",
    "stock_tfx",
]
