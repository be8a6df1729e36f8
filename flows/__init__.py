"""Prefect flows: the shell around the campaign's rules; its pools, server and command line."""
