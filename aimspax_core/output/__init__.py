"""The files that a campaign writes beside its record: results, losses, trajectories, analysis."""
