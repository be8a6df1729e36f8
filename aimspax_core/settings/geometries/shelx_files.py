"""SHELX files (`.res`, `.ins`), as SHELXL, AIRSS and others write them: made fit for ASE's reader.

ASE wants elements for labels and nothing but atoms behind `SFAC`, and knows of no symmetry.
Source: the manual of SHELX-97, chapters 7 and 8; a site's occupancy is 10 + s if it is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.res import Res

from aimspax_core.errors import StructureError
from aimspax_core.settings.reading.fortran import fortran_number

_WHOLE = 0.001
"""Occupancies are written with few digits; beyond 15 they are free variables of the refinement."""

_FIXED, _VARIABLE = 5.0, 15.0
"""Beyond the first, 10 is added to a value that refinement keeps; beyond the second, a value is a
multiple of a free variable."""

_INSTRUCTIONS = (
    " ABIN ACTA AFIX ANIS ANSC ANSR BASF BEDE BIND BLOC BOND BUMP CELL CGLS CHIV CONF CONN DAMP"
    " DANG DEFS DELU DFIX DISP EADP EQIV EXTI EXYZ FLAT FMAP FREE FVAR GRID HFIX HOPE HTAB ISOR"
    " LATT LAUE LIST LONE MERG MORE MPLA NCSY NEUT OMIT PART PLAN PRIG REM RESI RIGU RTAB SADI"
    " SAME SFAC SHEL SIMU SIZE SPEC STIR SUMP SWAT SYMM TEMP TIME TITL TWIN TWST UNIT WGHT WIGL"
    " WPDB XNPD ZERR "
)
"""What may stand behind `SFAC` beside atoms and changes none of them."""

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
        StructureError: Its symmetry, occupancies or disorder would be lost, or a line is neither an
            atom nor an instruction.
    """
    elements: list[str] = []
    kept: list[str] = []
    primitive = False
    for number, line in _lines(text):
        words = line.split()
        word = words[0].upper().partition("_")[0]
        if word in _END:
            break
        primitive = primitive or (word == "LATT" and words[1:2] == ["-1"])
        _refuse_symmetry(number, word, words)
        if word == "SFAC":
            elements += _elements(number, words[1:])
        if word in ("TITL", "CELL", "SFAC"):
            kept.append(line)
        elif f" {word} " not in _INSTRUCTIONS and elements and not _is_comment(line, words):
            kept.append(_atom(number, words, elements))
    if elements and not primitive:
        raise StructureError(
            "it has no LATT -1, and SHELX takes a file without it for one of a centre of symmetry, "
            "which is not read; allowed: LATT -1, and all atoms of the cell"
        )
    return "\n".join((*kept, "END", ""))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are not empty, each with those that go on with it, and their numbers.

    Remarks behind `!` and fragments (`FRAG` to `FEND`), whose atoms are not of the structure, are
    left out.
    """
    begun, first, fragment = "", 0, False
    for number, raw in enumerate(text.splitlines(), 1):
        if not begun and raw[:4].strip().upper() in ("TITL", "REM"):
            yield number, raw
            continue
        line, first = (begun + raw, first) if begun else (raw, number)
        whole = line.partition("!")[0].rstrip()
        begun = whole[:-1] if whole.endswith("=") else ""
        if begun or not whole:
            continue
        fragment = fragment or whole[:4].upper() == "FRAG"
        if not fragment:
            yield first, whole
        fragment = fragment and whole[:4].upper() != "FEND"
    if begun.strip() and not fragment:
        yield first, begun


def _refuse_symmetry(number: int, word: str, words: list[str]) -> None:
    disorder = word == "PART" and words[1:2] != ["0"]
    if word == "SYMM" or disorder or (word == "LATT" and words[1:2] != ["-1"]):
        raise StructureError(
            f"line {number}: '{' '.join(words)}': symmetry and disorder of SHELX files are "
            "not read; write the structure with all its atoms, such as x.cif"
        )


def _elements(number: int, words: list[str]) -> list[str]:
    """Return the elements of a line `SFAC`; numbers are factors of scattering."""
    names = [word for word in words if fortran_number(word) is None]
    for name in names:
        if not name.isalpha():
            raise StructureError(f"line {number}: SFAC: found {name}; allowed: chemical elements")
    return [name.capitalize() for name in names]


def _is_comment(line: str, words: list[str]) -> bool:
    """Whether a line that begins with a blank is a remark; many indent their atoms, too."""
    return line[:1].isspace() and not (len(words) > 1 and words[1].isdecimal())


def _atom(number: int, words: list[str], elements: list[str]) -> str:
    """Return the line of an atom with its element.

    Raises:
        StructureError: It is none, or not there as a whole.
    """
    label, kind = words[0], "".join(words[1:2])
    values = [value for word in words[2:6] if (value := fortran_number(word)) is not None]
    if not kind.isdecimal() or len(values) < min(4, max(3, len(words) - 2)):
        raise StructureError(
            f"line {number}: '{' '.join(words)}' is no atom, and no instruction that is known; "
            "allowed: a label, the number of its element in SFAC, three coordinates, an occupancy"
        )
    if not 0 < int(kind) <= len(elements):
        raise StructureError(f"line {number}: atom {label} is of kind {kind}, which SFAC has not")
    place, occupancy = values[:3], (*values[3:], 1.0)[0]
    if not any(abs(occupancy - whole) < _WHOLE for whole in (1.0, 11.0)):
        raise StructureError(
            f"line {number}: atom {label} is there in part ({words[5]}); allowed: "
            "an ordered structure, with whole atoms"
        )
    if any(abs(value) > _VARIABLE for value in place):
        raise StructureError(
            f"line {number}: a coordinate of atom {label} is a free variable; allowed: a number"
        )
    plain = " ".join(np.format_float_positional(_free(value), trim="0") for value in place)
    return f"{elements[int(kind) - 1]} {kind} {plain} 1.0"


def _free(value: float) -> float:
    return value if abs(value) < _FIXED else value - 10 * round(value / 10)
