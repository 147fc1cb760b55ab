"""The data gate: anomalies against the curated schema, and drift from what the model now served was trained on."""

__all__ = ["baseline", "component", "distance", "drift", "executor", "judge", "limits", "validate", "work"]
