"""`POSCAR` and `CONTCAR`: what ASE's reader of them leaves out, or guesses.

Source: the VASP wiki, pages POSCAR and Selective dynamics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixScaled

from aimspax_core.errors import StructureError
from aimspax_core.settings.reading.fortran import fortran_logical, fortran_number

_COUNTS_VASP_4 = 5
"""The line (from 0) of the numbers of atoms in files without elements."""


def complete_poscar(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take all spellings of flags that hold atoms, and say where elements are from.

    Args:
        frames: The structure that was read; changed in place.
        text: The content of the file.

    Returns:
        Notes on what was taken; without the name of the file.

    Raises:
        StructureError: There are more positions than atoms, or a flag is none.
    """
    lines = text.splitlines()
    without = lines[_COUNTS_VASP_4].split()[0].isdigit()
    place = _COUNTS_VASP_4 + (1 if without else 2)
    selective = lines[place].strip()[:1].lower() == "s"
    place += 2 if selective else 1
    for atoms in frames:
        behind = lines[place + len(atoms) : place + len(atoms) + 1]
        if (
            behind
            and len(behind[0].split()) >= 3
            and all(_is_number(w) for w in behind[0].split()[:3])
        ):
            raise StructureError(
                f"line {place + len(atoms) + 1}: a position beyond those of the {len(atoms)} atoms "
                "that the numbers of atoms say"
            )
        if selective:
            _hold(atoms, lines[place : place + len(atoms)], place)
    if not without:
        return ()
    found = "".join(dict.fromkeys(symbol for atoms in frames for symbol in atoms.symbols))
    return (
        f"it names no elements (VASP 4); {found} are taken, by its first line or a POTCAR or "
        "OUTCAR beside it",
    )


def _hold(atoms: Atoms, lines: Sequence[str], place: int) -> None:
    flags = [_flags(line, place + number + 1) for number, line in enumerate(lines)]
    held = ~np.array(flags)
    fixed = np.flatnonzero(held.all(axis=1))
    partly = np.flatnonzero(held.any(axis=1) & ~held.all(axis=1))
    constraints: list[FixAtoms | FixScaled] = [FixScaled(int(i), held[i]) for i in partly]
    atoms.set_constraint([*constraints, *([FixAtoms(fixed)] if len(fixed) else [])])


def _flags(line: str, number: int) -> list[bool]:
    words = line.split()[3:6]
    found = [flag for word in words if (flag := fortran_logical(word)) is not None]
    if len(found) < 3:
        raise StructureError(
            f"line {number}: found '{' '.join(words)}' behind a position of selective dynamics; "
            "allowed: T or F three times"
        )
    return found


def _is_number(word: str) -> bool:
    return fortran_number(word) is not None
