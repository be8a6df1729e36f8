"""A small calculation that tests an engine: its forces against differences of its energies.

Whatever the method, a force is minus the slope of the energy, and a stress is the slope of the
energy with strain over the volume. A wrong unit, sign or order of atoms shows at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.units import Bohr, Hartree

from aimspax_core.labels.gate import check_label
from aimspax_core.labels.label import Label
from aimspax_core.reference.interface import Reference
from aimspax_core.settings.engines import Gate

LONG_S = 300.0
"""Seconds; if a label takes longer, no others are computed to compare it with."""

_STEP = 0.01
"""Displacement to each side for a central difference (Å)."""

_STRAIN = 0.005

_STRETCH = 1.1
"""Length of a diatomic in sums of covalent radii: away from its minimum, where forces are small."""

_ALONG = np.array([1.0, 2.0, 3.0]) / math.sqrt(14.0)
"""No two components are the same, so that one cannot pass for another."""

_SHARE = 0.05
_FORCE = 0.02
_STRESS = 0.005
"""How far apart both may be: a share of the value, and so much (eV/Å, eV/Å³) of grids and noise."""

_HINTS = {
    -1.0: "the sign is the other way round",
    Bohr / Hartree: "the unit looks like Hartree/bohr",
    Bohr: "the unit of length looks like bohr",
}
_ANY = Gate(max_force=1e9)


@dataclass(frozen=True)
class Comparison:
    """A derivative of the energy, by the engine and by differences of its energies.

    Attributes:
        what: `force` or `stress`.
        unit: Of both.
        answered: By the engine.
        found: By a central difference of its energies.
        noise: How far apart both may be whatever their size.
    """

    what: str
    unit: str
    answered: float
    found: float
    noise: float

    @property
    def agrees(self) -> bool:
        """Whether both are the same within `noise` and 5 %."""
        return abs(self.answered - self.found) <= self.noise + _SHARE * abs(self.found)

    def __str__(self) -> str:
        both = f"{self.what} {self.answered:.4g} {self.unit}, by its energies {self.found:.4g}"
        if self.agrees or not self.found:
            return both
        ratio = self.answered / self.found
        near = [text for r, text in _HINTS.items() if abs(ratio - r) < 2 * _SHARE * abs(r)]
        return "; ".join((both, *near))


@dataclass(frozen=True)
class Trial:
    """The result of a small calculation.

    Attributes:
        label: Of the structure as it is.
        seconds: How long that took.
        comparisons: Empty if it took long.
    """

    label: Label
    seconds: float
    comparisons: tuple[Comparison, ...]


def diatomic(number: int) -> Atoms:
    """Return two atoms of an element, in vacuum and without unpaired electrons."""
    length = 2 * _STRETCH * covalent_radii[number]
    atoms = Atoms(numbers=[number] * 2, positions=[[0.0, 0.0, 0.0], *(length * _ALONG)[None]])
    atoms.info.update(charge=0.0, spin=1.0)
    return atoms


def off_balance(atoms: Atoms, strained: bool) -> Atoms:
    """Return a structure with a force on its first atom, and a stress if asked for.

    Symmetry may have left it neither, and nothing is no test.
    """
    moved = atoms.copy()
    if strained:
        moved = _strained(moved, -0.03)
    moved.positions[0] += 0.1 * _ALONG
    return moved


def hold_against_energies(reference: Reference, atoms: Atoms, stress: bool = False) -> Trial:
    """Label a structure, and compare a force (and a stress) with the slopes of the energy.

    Args:
        reference: The engine.
        atoms: N atoms, not at rest.
        stress: Look at the stress as well, of a structure that is periodic in all directions.

    Raises:
        LabelError, EngineError: The engine gave no usable answer.
    """
    began = time.perf_counter()
    label = _checked(reference, atoms, stress)
    seconds = time.perf_counter() - began
    if seconds > LONG_S:
        return Trial(label, seconds, ())
    sides = [_moved(atoms, step) for step in (_STEP, -_STEP)]
    slope = _slope(reference, sides, _STEP)
    found = [Comparison("force", "eV/Å", float(label.forces[0, 2]), -slope, _FORCE)]
    if stress:
        assert label.stress is not None
        sides = [_strained(atoms, strain) for strain in (_STRAIN, -_STRAIN)]
        slope = _slope(reference, sides, _STRAIN) / atoms.get_volume()
        found.append(Comparison("stress", "eV/Å³", float(label.stress[0, 0]), slope, _STRESS))
    return Trial(label, seconds, tuple(found))


def _slope(reference: Reference, sides: Sequence[Atoms], step: float) -> float:
    ahead, behind = (_checked(reference, side, False).energy for side in sides)
    return (ahead - behind) / (2 * step)


def _checked(reference: Reference, atoms: Atoms, stress: bool) -> Label:
    label = reference.label(atoms)
    check_label(atoms, label, _ANY, stress)
    return label


def _moved(atoms: Atoms, step: float) -> Atoms:
    moved = atoms.copy()
    moved.positions[0, 2] += step
    return moved


def _strained(atoms: Atoms, strain: float) -> Atoms:
    """Return a structure that is longer along x by a fraction."""
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
    return strained
