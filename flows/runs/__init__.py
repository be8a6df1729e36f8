"""Flow runs in Prefect: their names, log files, failures and earlier attempts."""
