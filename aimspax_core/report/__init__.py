"""What is said about a campaign: log lines, progress, tables, figures, and the plan of a run."""
