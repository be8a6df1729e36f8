"""The science of aimspax: settings, structures, reference, sampling, model, dataset, campaign, report.

Nothing in here imports Prefect or Dask: everything can be used from a notebook without a server.
"""

__version__ = "0.1.0"
