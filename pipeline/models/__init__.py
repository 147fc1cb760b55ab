"""The user modules that come with the project: `taxi` and `penguin`. Each is plain functions, as anyone would write them."""

__all__ = ["penguin", "taxi"]
