"""The science of aimspax, from settings and structures to campaigns and their reports.

Nothing in here imports Prefect or Dask: everything can be used from a notebook without a server.
"""

__version__ = "0.2.0"
