"""Where and when a pipeline runs: the command line and the engines behind it."""
