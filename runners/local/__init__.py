"""The local engine: runs the nodes of a compiled pipeline on this machine."""

__all__ = ["engine", "lock", "quiet"]
