"""A new pipeline around a person's data: what is found out about the columns, and the files that are written."""

__all__ = ["profile", "write"]
