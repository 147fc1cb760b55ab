"""The data gate: anomalies of the data against the curated schema stop a run before anything is trained."""

__all__ = ["component", "executor", "judge"]
