"""Training: what TFX's Trainer node calls, from the rows of a split, under a strategy, to a SavedModel and its signatures."""

__all__ = [
    "blocks",
    "cluster",
    "compress",
    "curves",
    "export",
    "fit",
    "inputs",
    "member",
    "precision",
    "preemption",
    "preprocessing",
    "reference",
    "requests",
    "resume",
    "rows",
    "run",
    "scope",
    "servers",
    "strategy",
    "warm_start",
]
