"""Pools of workers: opened, given work, watched. The only room that knows Dask's scheduler."""
