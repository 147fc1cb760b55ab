"""The search for hyperparameters: trials in worker processes, ranked under what the gates allow."""

__all__ = ["component", "constraints", "crew", "executor", "measure", "search", "space", "study", "trainee", "worker"]
