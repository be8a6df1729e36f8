"""From settings to an engine, made once in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from aimspax_core.reference.base import Reference
from aimspax_core.settings.project import EngineSettings, MaceReference, TbliteReference

_building = threading.Lock()


def build_reference(settings: EngineSettings, directory: Path) -> Reference:
    """Return the engine that the settings name, made once in a process.

    Args:
        settings: A section REFERENCE, or one like it.
        directory: The run directory; relative paths in the settings begin there.
    """
    with _building:
        return _build(settings, directory.resolve())


@cache
def _build(settings: EngineSettings, directory: Path) -> Reference:
    makers: dict[type, Callable[..., Reference]] = {
        TbliteReference: _tblite,
        MaceReference: _mace,
    }
    return makers[type(settings)](settings, directory)


def _tblite(settings: TbliteReference, _: Path) -> Reference:
    from aimspax_core.reference.tblite import TbliteEngine

    return TbliteEngine(settings)


def _mace(settings: MaceReference, directory: Path) -> Reference:
    from aimspax_core.reference.teacher import MaceTeacher

    return MaceTeacher(settings, directory)
