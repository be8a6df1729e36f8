"""The reference engine FHI-aims."""
