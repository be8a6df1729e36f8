"""What is said of a campaign: log lines, progress, tables, figures, and the plan of a run."""
