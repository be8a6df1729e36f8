"""When a phase of a campaign ends: the interface of a stopping rule, and the table of them all."""
