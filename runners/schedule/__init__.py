"""When to retrain: what a tick looks at, what it decides, the loop around it, and the timer that stands in for the loop."""

__all__ = ["commands", "decide", "look", "systemd", "watch"]
