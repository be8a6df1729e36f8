"""What the page of a flow run in Prefect shows besides its tasks."""
