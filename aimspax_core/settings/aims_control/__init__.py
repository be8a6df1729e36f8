"""The file control.in of FHI-aims."""
