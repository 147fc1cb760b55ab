"""Publishes the candidate into TF Serving's watch directory, if the gate's decision lets it, and records what was done."""
