"""Versions of what decides what a run computes, and whether two processes understand each other."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = (
    *("aimspax", "ase", "distributed", "mace-torch", "numpy", "prefect", "prefect-dask"),
    *("tblite", "torch"),
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`, by name."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}
