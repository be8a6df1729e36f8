"""Prefect flows. On top lie those that can be deployed; what they are made of lies in the rooms."""
