"""The kind `ase` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.interface import Finding, Kind, Reference, Use


def _check(section: AseReference, use: Use) -> Iterator[Finding]:
    from aimspax_core.reference.ase.checks import usable

    why = usable(section, use.directory, use.stress)
    if why is not None:
        key, _, text = why.partition(": ")
        yield Finding(key, text)


def _make(section: AseReference, directory: Path) -> Reference:
    from aimspax_core.reference.ase.engine import AseEngine

    return AseEngine(section, directory)


ASE = Kind(section=AseReference, make=_make, check=_check)
