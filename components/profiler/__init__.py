"""Profiler: what a payload costs and whether it serves what was trained, measured on the very bytes that ship.

Everything is measured in processes of their own that know TensorFlow's runtime alone, as a model server does.
"""

__all__ = [
    "child",
    "component",
    "driver",
    "executor",
    "latency",
    "machine",
    "measure",
    "memory",
    "parity",
    "rows",
    "runtime",
    "served",
    "spawn",
    "statistics",
]
