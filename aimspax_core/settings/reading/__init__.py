"""Settings files: which ones, read with their line numbers, and what is wrong with them."""
