"""Another name of `flows.pools.preload`, for one release: jobs that wait in a queue preload it."""

from flows.pools.preload import dask_setup, dask_teardown

__all__ = ["dask_setup", "dask_teardown"]
