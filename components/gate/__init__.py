"""The gate: it reads figures, never measures, and alone decides whether a candidate ships."""

__all__ = ["approval", "component", "decide", "executor", "select", "words", "work"]
