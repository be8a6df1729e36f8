"""From settings to engines. The table is `settings.known_engines.KINDS`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from aimspax_core.reference.interface import Kind, Reference
from aimspax_core.settings.known_engines import LOADED, EngineSettings

KEPT = 32
"""Engines that a process keeps at most: the reference of each geometry, and a sampling engine."""

_building = threading.Lock()
_built: OrderedDict[tuple[str, Path], Reference] = OrderedDict()


def kinds() -> tuple[Kind, ...]:
    """Return all kinds of engines, in the order of the table."""
    return LOADED


def kind_of(settings: EngineSettings) -> Kind:
    """Return the kind of engine that a section is for."""
    return next(kind for kind in kinds() if kind.section is type(settings))


def make_reference(settings: EngineSettings, directory: Path) -> Reference:
    """Return a new engine, which takes its files as they are now.

    Args:
        settings: A section REFERENCE, or one like it.
        directory: The run directory; relative paths in the settings begin there.

    Raises:
        ModelError: A teacher's file cannot be read.
        SettingsError: A user's calculator cannot be imported, or its files cannot be read.
    """
    return kind_of(settings).make(settings, directory.resolve())


def build_reference(settings: EngineSettings, directory: Path) -> Reference:
    """Return an engine that this process has made before, or a new one: for workers.

    Arguments and errors are those of `make_reference`.
    """
    # Their text, because arguments for a calculator have no hash, and 1 must not pass for True.
    key = (repr(settings), directory.resolve())
    with _building:
        if key not in _built:
            _built[key] = make_reference(settings, directory)
        _built.move_to_end(key)
        while len(_built) > KEPT:
            _built.popitem(last=False)
        return _built[key]
