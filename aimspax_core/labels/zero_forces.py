"""Whether forces of exactly zero can be true: symmetry alone makes them so."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

_REACH = 0.75
"""Neighbours are as near as this many times twice their covalent radii: they must interact."""

_NOTHING = 1e-4
"""A pull below it is that of a symmetric surrounding (a bond is of the order of 1)."""


def may_vanish(atoms: Atoms) -> bool:
    """Return whether the forces on all atoms can be exactly zero.

    Each atom is pulled towards its neighbours by some function of distance and element. Where
    symmetry lets no force be, as on every atom of a perfect crystal, such pulls cancel whatever the
    function is; elsewhere they do not. Atoms without near neighbours may be without forces.

    Args:
        atoms: N atoms (Å), periodic or not.
    """
    if len(atoms) == 1:
        return True
    reach = 2 * _REACH * covalent_radii[atoms.numbers]
    i, j, distance, vector = neighbor_list("ijdD", atoms, list(reach))
    share = 1 - distance / (reach[i] + reach[j])
    weight = share**2 * (1 + 0.1 * np.sqrt(atoms.numbers[j]))
    pull = np.zeros((len(atoms), 3))
    apart = distance > 0
    np.add.at(pull, i[apart], (weight[apart] / distance[apart])[:, np.newaxis] * vector[apart])
    return bool(np.abs(pull).max() < _NOTHING)
