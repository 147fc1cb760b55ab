"""A run on a sample in a root of its own that never pushes: the gates of a change, for its pull request."""

__all__ = ["base", "commands", "report", "run", "sample"]
