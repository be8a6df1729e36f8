"""The kind `ase` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.interface import Finding, Kind, Reference, Use

if TYPE_CHECKING:
    from ase import Atoms


def _check(section: AseReference, use: Use) -> Iterator[Finding]:
    from aimspax_core.reference.ase.checks import usable

    yield from _finding(usable(section, use.directory, use.stress))


def _check_structure(section: AseReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    from aimspax_core.reference.ase.checks import structure_refused

    yield from _finding(structure_refused(section, use.directory, atoms))


def _finding(refused: str | None) -> Iterator[Finding]:
    if refused is not None:
        key, _, text = refused.partition(": ")
        yield Finding(key, text)


def _lacks(section: AseReference, directory: Path, quantity: str) -> str:
    from aimspax_core.reference.ase.checks import usable

    if quantity != "dipole":
        return "calculators of ASE give no Hirshfeld ratios"
    refused = usable(section, directory, more=("dipole",))
    return "" if refused is None else refused.partition(": ")[2]


def _make(section: AseReference, directory: Path) -> Reference:
    from aimspax_core.reference.ase.engine import AseEngine

    return AseEngine(section, directory)


ASE = Kind(
    section=AseReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    lacks=_lacks,
)
