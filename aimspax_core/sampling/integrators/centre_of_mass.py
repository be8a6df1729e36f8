"""The centre of mass: the key `fixcm`, and how it is brought to rest."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import FixCom
from ase.constraints.constraint import FixConstraint
from numpy.typing import NDArray
from pydantic import Field

from aimspax_core.settings.ensembles import MDKeys
from aimspax_core.settings.geometries.held_atoms import HeldAtoms

Array = NDArray[np.float64]


class CentreKeys(MDKeys):
    """The key of ensembles that hold the centre of mass if they are asked to."""

    fixcm: bool = Field(
        True,
        description="Hold the centre of mass, as far as held atoms do not hold it already.",
    )


def is_held(md: CentreKeys) -> bool:
    """Return whether the centre of mass is held."""
    return md.fixcm


class FixComAlong(FixConstraint):
    """Holds the centre of mass of N atoms in some directions: ASE's `FixCom` does in all three.

    Args:
        directions: Orthonormal, (k, 3).
    """

    def __init__(self, directions: Array) -> None:
        self.directions = directions

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Return how many degrees of freedom it takes."""
        return len(self.directions)

    def adjust_positions(self, atoms: Atoms, new: Array) -> None:
        """Shift new positions (N, 3) so that the centre stays."""
        masses = atoms.get_masses()
        new -= self._part(masses @ (new - atoms.positions) / masses.sum())

    def adjust_momenta(self, atoms: Atoms, momenta: Array) -> None:
        """Take the centre's motion from momenta (N, 3)."""
        masses = atoms.get_masses()
        momenta -= np.outer(masses, self._part(momenta.sum(axis=0) / masses.sum()))

    def adjust_forces(self, atoms: Atoms, forces: Array) -> None:
        """Take from forces (N, 3) what accelerates the centre."""
        self.adjust_momenta(atoms, forces)

    def _part(self, vector: Array) -> Array:
        """Return the part of a vector (3,) in the directions; exactly 0 along other axes."""
        return (self.directions @ vector) @ self.directions


def hold(atoms: Atoms, md: CentreKeys) -> None:
    """Give atoms ASE's constraint if the centre of mass is to be held.

    It comes behind those that hold atoms, and in the directions only in which all atoms can move:
    what holds an atom in another takes up the forces, and the centre is not at rest there.

    Notes:
        A constraint and not the integrator's own `fixcm=True`: Langevin's does not sample the
        canonical distribution exactly (ASE 3.28 release notes, merge request 3986), and
        Berendsen's takes the motion away, but its thermostat goes on counting it.
    """
    if not md.fixcm:
        return
    directions = HeldAtoms.of(atoms).common_directions()
    if len(directions):
        whole = len(directions) == 3
        centre = FixCom() if whole else FixComAlong(directions)
        atoms.set_constraint([*atoms.constraints, centre])


def bring_to_rest(atoms: Atoms) -> None:
    """Take the centre of mass's motion from the momenta (N, 3): `p[a] -= m[a] / M sum_b p[b]`.

    Atoms with constraints keep what their centre has in directions in which some are held.
    """
    directions = HeldAtoms.of(atoms).common_directions()
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, np.newaxis]
    if len(directions) == 3:
        atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
    elif len(directions):
        FixComAlong(directions).adjust_momenta(atoms, momenta)
        atoms.set_momenta(momenta)
