"""Versions of what decides what a run computes, and whether two processes understand each other."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = (
    *("aimspax", "ase", "distributed", "mace-torch", "numpy", "prefect", "prefect-dask"),
    *("tblite", "torch"),
)

EXTRAS = ("so3krates-torch",)
"""Packages of extras that models are trained by."""


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def release() -> str:
    """Return the version of aimspax; empty if it runs without being installed."""
    return version_of("aimspax") or ""


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`, by name: of what all workers have."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def versions_here() -> dict[str, str]:
    """Return these, and the versions of those of `EXTRAS` that are installed here."""
    extras = {name: version for name in EXTRAS if (version := version_of(name))}
    return versions() | extras
