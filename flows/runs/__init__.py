"""Flow runs: their names, log files, listeners, failures and previous attempts."""
