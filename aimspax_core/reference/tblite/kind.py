"""The kind `tblite` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aimspax_core.reference.electrons import beside, own_or, refused
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.tblite.section import TbliteReference

if TYPE_CHECKING:
    from ase import Atoms

_F_IN_CORE = range(58, 72)
"""GFN-xTB has three valence electrons for each of Ce to Lu, as for La: a doublet."""


def _check_structure(section: TbliteReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    """The multiplicity must suit the number of electrons; what atoms say may be another state."""
    charge, spin = own_or(atoms, section.charge, section.spin)
    in_core = sum(z - 3 for z in atoms.numbers.tolist() if z in _F_IN_CORE)
    valence = " (three of each lanthanide)" if in_core else ""
    wrong = refused(atoms, charge, spin, in_core, valence)
    if wrong is not None:
        yield wrong
    yield from beside(atoms, charge, spin, "tblite")


def _atom_multiplicity(number: int) -> int | None:
    return 2 if number in _F_IN_CORE else None


def _make(section: TbliteReference, directory: Path) -> Reference:
    from aimspax_core.reference.tblite.engine import TbliteEngine

    return TbliteEngine(section)


TBLITE = Kind(
    section=TbliteReference,
    make=_make,
    check_structure=_check_structure,
    atom_multiplicity=_atom_multiplicity,
)
