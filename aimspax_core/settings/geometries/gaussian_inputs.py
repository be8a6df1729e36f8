"""Inputs of Gaussian: what ASE's reader of them refuses or leaves out.

Source: Gaussian's documentation, Molecule Specifications and Link 0 Commands: an atom's line is
`Element[(…)] [freeze code] x y z`, where a negative code keeps the atom where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aimspax_core.errors import StructureError
from aimspax_core.settings.reading.fortran import fortran_number

_WHOLE = re.compile(r"0|-\d+")
_LOST = re.compile(
    r"\b(field\s*[=(]\S*|charge\b(?!\s*=\s*check)\S*|units\s*=\s*\(?au\S*)", re.IGNORECASE
)
"""Keywords of the route that change the system and are not read."""


def without_freeze_codes(text: str) -> str:
    """Return the text of an input as ASE reads it: without codes that keep atoms in their places.

    Raises:
        StructureError: It has a field, point charges or units that are not read.
    """
    lines = text.splitlines()
    route = " ".join(line for line in _route(lines))
    if lost := _LOST.search(route):
        raise StructureError(
            f"'{lost[1]}' is not read of a Gaussian input; write the structure as geometry.in, "
            "which has fields and point charges, or as x.xyz"
        )
    for number in _molecule(lines):
        atom, *rest = lines[number].split()
        if _has_code(rest):
            rest = rest[1:]
        elif len(rest) != 3 or rest[0] != "0":  # else ASE takes it for a line of a Z-matrix
            continue
        lines[number] = " ".join(
            (atom, *(f"{v}.0" if v.lstrip("+-").isdigit() else v for v in rest))
        )
    return "\n".join((*lines, ""))


def frozen_atoms(text: str) -> list[int]:
    """Return the indices of the atoms that an input keeps where they are."""
    lines = text.splitlines()
    atoms = (lines[number].split()[1:] for number in _molecule(lines))
    return [i for i, rest in enumerate(atoms) if _has_code(rest) and rest[0].startswith("-")]


def _has_code(rest: list[str]) -> bool:
    return len(rest) == 4 and _WHOLE.fullmatch(rest[0]) is not None and all(map(_is_number, rest))


def _is_number(word: str) -> bool:
    return fortran_number(word) is not None


def _route(lines: list[str]) -> Iterator[str]:
    """Yield the lines of the route section: from `#` to the first blank line."""
    begun = False
    for line in lines:
        begun = begun or line.lstrip().startswith("#")
        if begun and not line.strip():
            return
        if begun:
            yield line.split("!")[0]


def _molecule(lines: list[str]) -> Iterator[int]:
    """Yield the numbers (from 0) of the lines of atoms, and of translation vectors behind them."""
    sections = 0
    for number, line in enumerate(lines):
        if not line.strip():
            sections += bool(number and lines[number - 1].strip())
            if sections > 2:
                return
        elif sections == 2 and lines[number - 1].strip():
            yield number
