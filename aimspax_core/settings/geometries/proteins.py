"""Files of the Protein Data Bank: what ASE's reader of them leaves out, or guesses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from aimspax_core.settings.geometries.doubts import (
    REFUSED,
    alternate_locations,
    stands_for_no_cell,
)
from aimspax_core.settings.geometries.elements_of_names import with_elements


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
