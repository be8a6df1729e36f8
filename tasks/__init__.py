"""Prefect tasks, one file each: thin, cached where it pays, run on a Dask worker."""
