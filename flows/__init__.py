"""Prefect flows: the shell around the campaign's rules, its pools, its server and its command line."""
