"""The kind `tblite` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.tblite.section import TbliteReference

if TYPE_CHECKING:
    from ase import Atoms

_F_IN_CORE = range(58, 72)
"""GFN-xTB has three valence electrons for each of Ce to Lu, as for La: a doublet."""


def _check_structure(section: TbliteReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    """The multiplicity must suit the number of electrons, and initial charges the total charge."""
    charge = float(atoms.info.get("charge", section.charge))
    spin = float(atoms.info.get("spin", section.spin))
    if charge != round(charge):
        yield Finding("charge", f"the total charge is {charge:g}; allowed: a whole number")
    elif spin != round(spin) or spin < 1:
        yield Finding("spin", f"the multiplicity is {spin:g}; allowed: 1, 2, 3, …")
    else:
        yield from _check_spin(atoms, round(charge), round(spin))
    initial = float(atoms.get_initial_charges().sum())
    if atoms.has("initial_charges") and abs(initial - charge) > 0.5:
        text = f"the initial charges add up to {initial:g}; tblite is given the charge {charge:g}"
        yield Finding("charge", text, note=True)


def _check_spin(atoms: Atoms, charge: int, spin: int) -> Iterator[Finding]:
    in_core = sum(z - 3 for z in atoms.numbers.tolist() if z in _F_IN_CORE)
    electrons = int(atoms.numbers.sum()) - in_core - charge
    formula = atoms.get_chemical_formula()
    if electrons < 0:
        yield Finding("charge", f"{formula} has no {charge} electrons to lose")
    elif spin > electrons + 1:
        yield Finding("spin", f"the multiplicity is {spin}; {formula} has {electrons} electrons")
    elif (electrons + spin) % 2 == 0:
        allowed = "2, 4, …" if electrons % 2 else "1, 3, …"
        valence = " (three of each lanthanide)" if in_core else ""
        yield Finding(
            "spin",
            f"the multiplicity is {spin}, but with charge {charge} {formula} has "
            f"{electrons} electrons{valence}; allowed: {allowed}",
        )


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
