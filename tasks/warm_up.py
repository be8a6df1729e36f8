"""What a worker does while it has nothing else to do yet: import what its tasks will need."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

from aimspax_core.errors import AimspaxError
from aimspax_core.reference.registry import build_reference
from aimspax_core.settings.known_engines import EngineSettings

log = logging.getLogger(f"aimspax.{__name__}")


def import_modules(names: Sequence[str]) -> None:
    """Import modules by their names."""
    for name in names:
        importlib.import_module(name)


def build_engine(reference: EngineSettings, directory: Path) -> None:
    """Make a reference engine, which this worker then has; its first task says what is wrong.

    Args:
        reference: The engine.
        directory: The run directory; relative paths in the settings begin there.
    """
    try:
        build_reference(reference, directory)
    except (AimspaxError, OSError):
        log.debug("the engine cannot be made yet", exc_info=True)
