"""Files of the Protein Data Bank: what ASE's reader of them leaves out, or guesses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ase import Atoms

from aimspax_core.settings.geometries.doubts import (
    REFUSED,
    alternate_locations,
    stands_for_no_cell,
)
from aimspax_core.settings.geometries.elements_of_names import is_of_life, with_elements
from aimspax_core.settings.reading.fortran import fortran_number

_ATOM = ("ATOM  ", "HETATM")
_MANY = 4
"""Atoms beyond which hydrogens would be expected among them."""

_CHARGE = re.compile(r"(\d)([+-])")


def models_of(text: str, read: Callable[[str], list[Atoms]]) -> tuple[list[Atoms], tuple[str, ...]]:
    """Read the models of a PDB file; for ASE, `END` behind the last `ENDMDL` is one more, of none.

    Args:
        text: The content of the file.
        read: ASE's reader, for a text in which each atom has its element.

    Returns:
        The models that hold atoms, and notes without the name of the file.

    Raises:
        StructureError: The name of an atom, where nothing else does, does not tell its element.
    """
    text, filled = with_elements(text)
    models = [atoms for atoms in read(text) if len(atoms)]
    notes = ("elements that it leaves out are taken by atoms' names",) if filled else ()
    notes = (*notes, *_doubts(text, models[-1:]))
    crystal = [atoms for atoms in models if atoms.pbc.any()]
    for atoms in models if len(crystal) == 1 else ():  # it is said once, for all
        atoms.cell, atoms.pbc = crystal[0].cell, crystal[0].pbc
    if stands_for_no_cell(text):
        for atoms in models:
            atoms.cell, atoms.pbc = np.zeros((3, 3)), False
        notes = (*notes, "its cell of 1 or 0 Å stands for none; it is no crystal")
    for model, refused in alternate_locations(text).items():
        models[model].info[REFUSED] = refused  # by whoever takes it for a structure
    return models, notes


def _doubts(text: str, models: Sequence[Atoms]) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line.startswith(_ATOM)]
    if charge := _sum_of_charges(text):
        yield (
            f"charges of its atoms add up to {charge:+d}, which is not taken as a total charge; "
            "REFERENCE.charge says one"
        )
    if any(len(atoms) >= _MANY and 1 not in atoms.numbers for atoms in models) and any(
        is_of_life(line[17:20]) for line in lines
    ):
        yield "it has no hydrogen atoms, as most structures from X-ray diffraction"
    shares = (fortran_number(line[54:60].strip()) for line in lines)
    if any(share is not None and 0 < share < 1 for share in shares):
        yield "occupancies below 1 are taken as 1"


def _sum_of_charges(text: str) -> int:
    """Return the sum of what columns 79-80 say (`1+`), which is mostly of ions alone."""
    found = (_CHARGE.match(line[78:80]) for line in text.splitlines() if line.startswith(_ATOM))
    return sum(int(sign[2] + sign[1]) for sign in found if sign is not None)
