"""The public functions for use from Python, the same as the commands."""
