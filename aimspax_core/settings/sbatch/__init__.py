"""Slurm's options of a job, as people write them."""
