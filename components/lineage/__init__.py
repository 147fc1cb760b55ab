"""The lineage in ML Metadata: reading it, writing what TFX does not, and finding the champion and its data in it."""

__all__ = ["acts", "baseline", "champion", "history", "reader", "served", "store", "trained_on", "writer"]
