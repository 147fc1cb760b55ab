"""The lineage in ML Metadata: reading it, writing what TFX does not, and finding the champion in it."""

__all__ = ["champion", "reader", "writer"]
