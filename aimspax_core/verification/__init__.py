"""Is all well in a run directory? A reader that shares no code with what wrote it."""
