"""A run directory, read and found fit for what is asked of it, before anything starts."""
