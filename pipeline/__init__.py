"""The graph: which components stand in it, how they are wired, and the user modules that come with the project."""
