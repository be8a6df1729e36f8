"""SHELX files (`.res`, `.ins`), as SHELXL, AIRSS and others write them: made fit for ASE's reader.

ASE wants elements for labels and nothing but atoms behind `SFAC`, and knows of no symmetry.
Source: the manual of SHELX-97, chapters 7 and 8; a site's occupancy is 10 + s if it is fixed.
"""

from __future__ import annotations

import re

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.res import Res

from aimspax_core.errors import StructureError

_WHOLE = 0.001
"""Occupancies are written with few digits; beyond 15 they are free variables of the refinement."""

_ATOM = re.compile(r"([A-Za-z]\w*)\s+(\d+)((?:\s+[+-]?\d*\.?\d+){3})(\s+[+-]?\d*\.?\d+)?")
_NO_ATOMS = (
    " ABIN ACTA AFIX ANIS ANSC ANSR BASF BIND BLOC BOND BUMP CELL CGLS CHIV CONF CONN DAMP DANG"
    " DEFS DELU DFIX DISP EADP END EQIV EXTI EXYZ FEND FLAT FMAP FRAG FREE FVAR"
    " GRID HFIX HKLF HTAB ISOR"
    " LATT LAUE LIST MERG MORE MOVE MPLA NCSY NEUT OMIT PART PLAN PRIG REM RESI RIGU RTAB SADI SAME"
    " SFAC SHEL SIMU SIZE SPEC STIR SUMP SWAT SYMM TEMP TITL TWIN TWST UNIT WGHT WIGL WPDB XNPD"
    " ZERR "
)
_END = ("END", "HKLF")


def read_shelx(text: str) -> Atoms:
    """Read a SHELX file.

    Raises:
        StructureError: Its symmetry, occupancies or disorder would be lost.
    """
    found = Res.from_string(_with_elements_for_labels(text))
    atoms: Atoms = found.atoms
    if found.energy:
        atoms.calc = SinglePointCalculator(atoms, energy=found.energy)
    return atoms


def _with_elements_for_labels(text: str) -> str:
    """Return a SHELX file's text as ASE reads it: title, cell, elements, atoms by element.

    Raises:
        StructureError: Its symmetry, occupancies or disorder would be lost.
    """
    elements: list[str] = []
    kept: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        word = words[0].upper()[:4] if words else ""
        if word in _END:
            break
        if word in ("SYMM", "PART") or (word == "LATT" and words[1:2] != ["-1"]):
            if word != "PART" or words[1:2] != ["0"]:
                raise StructureError(
                    f"line {number}: '{line.strip()}': symmetry and disorder of SHELX files are "
                    "not read; write the structure with all its atoms, such as x.cif"
                )
        elif word == "SFAC":
            elements += [word.capitalize() for word in words[1:] if word.isalpha()]
        if word in ("TITL", "CELL", "SFAC"):
            kept.append(line)
        elif f" {word} " not in _NO_ATOMS and elements:
            kept += _atom(line, number, elements)
    return "\n".join((*kept, "END", ""))


def _atom(line: str, number: int, elements: list[str]) -> list[str]:
    """Return the line of an atom with its element, if it is one."""
    atom = _ATOM.match(line.strip())
    if atom is None:
        return []
    label, kind, place, occupancy = atom.groups()
    if not 0 < int(kind) <= len(elements):
        raise StructureError(f"line {number}: atom {label} is of kind {kind}, which SFAC has not")
    if not any(abs(float(occupancy or 1.0) - whole) < _WHOLE for whole in (1.0, 11.0)):
        raise StructureError(
            f"line {number}: atom {label} is there in part ({(occupancy or '').strip()}); allowed: "
            "an ordered structure, with whole atoms"
        )
    places = " ".join(
        value if abs(float(value)) < _FIXED else repr(_free(value)) for value in place.split()
    )
    return [f"{elements[int(kind) - 1]} {kind} {places} 1.0"]


_FIXED = 5.0
"""Beyond it, 10 is added to a value that refinement keeps."""


def _free(value: str) -> float:
    number = float(value)
    return number if abs(number) < _FIXED else number - 10 * round(number / 10)
