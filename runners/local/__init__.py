"""The local engine: runs the nodes of a compiled pipeline on this machine."""

__all__ = [
    "cache",
    "choice",
    "engine",
    "graph",
    "jobs",
    "known",
    "lean",
    "light",
    "lock",
    "quiet",
    "records",
    "session",
    "template",
]
