"""Which charges and multiplicities GFN-xTB can give a structure."""

from __future__ import annotations

from ase import Atoms

from aimspax_core.reference.electrons import own_or, refused
from aimspax_core.reference.interface import Finding
from aimspax_core.reference.tblite.section import TbliteReference

F_IN_CORE = range(58, 72)
"""GFN-xTB has three valence electrons for each of Ce to Lu, as for La: a doublet."""


def electrons_refused(section: TbliteReference, atoms: Atoms) -> Finding | None:
    """Return why a structure has not the electrons that it, or the settings, say; None if it has.

    tblite itself answers all the same, for another state than was asked for.
    """
    charge, spin = own_or(atoms, section.charge, section.spin)
    in_core = sum(z - 3 for z in atoms.numbers.tolist() if z in F_IN_CORE)
    valence = " (three of each lanthanide)" if in_core else ""
    return refused(atoms, charge, spin, in_core, valence)
