"""What the page of a run shows beside its tasks."""
