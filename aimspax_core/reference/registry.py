"""From settings to an engine, made once in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from aimspax_core.reference.engine import Reference
from aimspax_core.settings.project import (
    AimsReference,
    AseReference,
    EngineSettings,
    MaceMpReference,
    MaceReference,
    PyscfReference,
    TbliteReference,
)

_building = threading.Lock()
_built: dict[tuple[str, Path], Reference] = {}


def forget_references() -> None:
    """Have engines made anew: a run that begins takes their files as they are now."""
    with _building:
        _built.clear()


def build_reference(settings: EngineSettings, directory: Path) -> Reference:
    """Return the engine that the settings name, made once in a process.

    Args:
        settings: A section REFERENCE, or one like it.
        directory: The run directory; relative paths in the settings begin there.

    Raises:
        ModelError: A teacher's file cannot be read.
        SettingsError: A user's calculator cannot be imported, or its files cannot be read.
    """
    makers: dict[type, Callable[..., Reference]] = {
        TbliteReference: _tblite,
        MaceReference: _mace,
        MaceMpReference: _mace_mp,
        AseReference: _ase,
        AimsReference: _aims,
        PyscfReference: _pyscf,
    }
    # Their text, because arguments for a calculator have no hash, and 1 must not pass for True.
    key = (repr(settings), directory.resolve())
    with _building:
        if key not in _built:
            _built[key] = makers[type(settings)](settings, key[1])
        return _built[key]


def _tblite(settings: TbliteReference, _: Path) -> Reference:
    from aimspax_core.reference.tblite_engine import TbliteEngine

    return TbliteEngine(settings)


def _mace(settings: MaceReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace_engine import MaceTeacher

    return MaceTeacher(settings, directory)


def _mace_mp(settings: MaceMpReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace_engine import FoundationTeacher

    return FoundationTeacher(settings, directory)


def _ase(settings: AseReference, directory: Path) -> Reference:
    from aimspax_core.reference.ase.engine import AseEngine

    return AseEngine(settings, directory)


def _aims(settings: AimsReference, directory: Path) -> Reference:
    from aimspax_core.reference.aims.engine import AimsEngine

    return AimsEngine(settings, directory)


def _pyscf(settings: PyscfReference, directory: Path) -> Reference:
    from aimspax_core.reference.pyscf.engine import PyscfEngine

    return PyscfEngine(settings, directory)
