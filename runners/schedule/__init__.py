"""When to retrain: what a tick looks at, what it decides, the loop around it, and the timers that stand in for the loop."""

__all__ = ["arrivals", "commands", "cronjob", "decide", "look", "quality", "systemd", "watch"]
