"""The kind `tblite` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers

from aimspax_core.errors import SettingsError
from aimspax_core.reference.electrons import beside, own_or
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.reference.tblite.states import F_IN_CORE, electrons_refused

if TYPE_CHECKING:
    from ase import Atoms


def _check(section: TbliteReference, use: Use) -> Iterator[Finding]:
    why = _why_not_loaded()
    if why is not None:
        yield Finding("engine", why)


def _why_not_loaded() -> str | None:
    """Say why tblite cannot be imported: a bare Linux has not GCC's OpenMP, which it is linked to.

    PyTorch brings a copy of its own, so that it hides what is missing once it is imported.
    """
    try:
        import tblite.interface  # noqa: F401
    except ImportError as error:
        return (
            f"tblite cannot be loaded ({error.__cause__ or error}); if it is libgomp that is "
            "missing: apt install libgomp1 (Debian, Ubuntu), dnf install libgomp (Fedora, RHEL)"
        )
    return None


def _check_structure(section: TbliteReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    """The multiplicity must suit the number of electrons; what atoms say may be another state."""
    unknown = _unknown_element(section.method, atoms)
    if unknown is not None:
        yield Finding("method", f"{section.method} does not know {unknown}")
        return
    wrong = electrons_refused(section, atoms)
    if wrong is not None:
        yield wrong
    yield from beside(atoms, *own_or(atoms, section.charge, section.spin), "tblite")


def _unknown_element(method: str, atoms: Atoms) -> str | None:
    """Return the first element that a method has no parameters for, by asking tblite."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    for symbol in dict.fromkeys(atoms.get_chemical_symbols()):
        number = atomic_numbers[symbol]
        try:  # with hydrogen beside it: tblite takes no single ion of some elements
            Calculator(method, np.array([number, 1]), np.array([[0.0] * 3, [0.0, 0.0, 6.0]]))
        except TBLiteRuntimeError:
            return str(symbol)
    return None


def _atom_multiplicity(number: int) -> int | None:
    return 2 if number in F_IN_CORE else None


def _lacks(section: TbliteReference, directory: Path, quantity: str) -> str:
    return "" if quantity == "dipole" else "it gives dipoles, and no Hirshfeld ratios"


def _make(section: TbliteReference, directory: Path) -> Reference:
    why = _why_not_loaded()
    if why is not None:
        raise SettingsError(f"engine: {why}")
    from aimspax_core.reference.tblite.engine import TbliteEngine

    return TbliteEngine(section)


TBLITE = Kind(
    section=TbliteReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    atom_multiplicity=_atom_multiplicity,
    lacks=_lacks,
)
