"""Elements of files of force fields: DL_POLY and GROMOS, by atoms' names, or masses.

Names are those of types of atoms, which ASE takes for elements by their first letters: `ca` is an
aromatic carbon to AMBER's force field and calcium to ASE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.elements_of_names import element_of_name

_BY_NAMES = "the format has no elements; they are taken by the names of the atoms"
_OFF = 0.01
"""Share by which masses of force fields are off those of elements at most."""


def complete_config(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Set the elements of DL_POLY's CONFIG by the names of its atoms.

    Raises:
        StructureError: A name does not tell the element; the text has its line.
    """
    lines = text.splitlines()
    level, periodic = (int(word) for word in lines[1].split()[:2])
    is_history = lines[2].split()[:1] == ["timestep"]
    start = 2 + is_history + (3 if periodic or is_history else 0)
    names = (
        (n + 1, lines[n].split()[0])
        for n in range(start, len(lines), level + 2)
        if lines[n].strip()
    )
    return _by_names(frames, ((number, name, "") for number, name in names))


def complete_history(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Hold the elements of DL_POLY's HISTORY against its masses.

    Raises:
        StructureError: An atom that ASE has read as an element has not its mass.
    """
    del text
    for atoms in frames:
        usual = atomic_masses[atoms.numbers]
        off = np.flatnonzero(np.abs(atoms.get_masses() - usual) > _OFF * usual)
        if len(off):
            first = int(off[0])
            raise StructureError(
                f"atom {first} would be {atoms[first].symbol} by its name, and its mass is "
                f"{atoms.get_masses()[first]:g}; write the elements, or another format, such as "
                "x.xyz"
            )
    return (_BY_NAMES,)


def complete_gromos(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Set the elements of a GROMOS96 file by the names of its atoms.

    Raises:
        StructureError: A name does not tell the element; the text has its line.
    """
    names, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if inside and words[:1] != ["END"] and len(words) >= 7:
            names.append((number, words[2], words[1]))
        inside = words[:1] == ["POSITION"] or (inside and words[:1] != ["END"])
    return _by_names(frames, names)


def _by_names(frames: Sequence[Atoms], names: Iterable[tuple[int, str, str]]) -> tuple[str, ...]:
    """Set elements by names, given with their line and residue, of the atoms of each frame."""
    numbers = []
    for line, name, residue in names:
        element = element_of_name(name, residue)
        if element is None:
            raise StructureError(
                f"line {line}: the format has no elements, and atom {name} does not tell its own "
                "by its name; write the structure in another format, such as x.xyz"
            )
        numbers.append(atomic_numbers[element])
    for atoms in frames:
        atoms.numbers[:] = np.array(numbers)[: len(atoms)]
    return (_BY_NAMES,)
