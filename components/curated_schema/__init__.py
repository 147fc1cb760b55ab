"""The curated data schema as an artifact, whose text is part of the cache key: an edited schema is seen by the next run."""

__all__ = ["component", "executor"]
