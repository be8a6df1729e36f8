"""The deployments of the flows: what is to be deployed, and how it gets to a Prefect server.

The YAML files here are those of the folder `deployments/` of the repository.
"""
