"""Labels beside what the committee had said of them before any member learnt them, as pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One structure of N atoms, as the committee saw it and as its label tells.

    Attributes:
        symbols: Elements, N of them.
        said: Mean forces of the committee, shape (N, 3), in eV/Å.
        true: Forces of the label, likewise.
        said_energy: Mean energy of the committee, in eV.
        true_energy: That of the label.
        said_dipole: Mean dipole of the committee, shape (3,), in e·Å; None if it learns none.
        true_dipole: That of the label; None if it has none.
    """

    symbols: tuple[str, ...]
    said: Array
    true: Array
    said_energy: float
    true_energy: float
    said_dipole: Array | None = None
    true_dipole: Array | None = None


def force_pairs(compared: Sequence[Compared]) -> dict[str, Array]:
    """Return all force components, those of the label and those said, by element.

    Returns:
        Arrays of shape (n, 2), in eV/Å; the element with the most atoms first.
    """
    if not compared:
        return {}
    symbols = np.concatenate([np.array(one.symbols) for one in compared])
    pairs = np.concatenate([np.stack([one.true, one.said], axis=-1) for one in compared])
    kinds, counts = np.unique(symbols, return_counts=True)
    ordered = kinds[np.argsort(-counts, kind="stable")]
    return {str(kind): pairs[symbols == kind].reshape(-1, 2) for kind in ordered}


def thinned(pairs: Mapping[str, Array], most: int) -> dict[str, Array]:
    """Return evenly spaced ones of pairs, by element, where they are more than so many in all.

    Rows are x, y and z of one atom after another: every third would be of one direction alone.
    """
    every = max(1, -(-sum(len(found) for found in pairs.values()) // most))
    every += every % 3 == 0
    return {kind: found[::every] for kind, found in pairs.items()}


def energy_pairs(compared: Sequence[Compared]) -> Array:
    """Return the energies per atom, those of the label and those said.

    They are less their mean over the structures of the same composition: the constant part of a
    committee's error moves with each training.

    Returns:
        Shape (n, 2), in meV/atom.
    """
    by_formula: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for one in compared:
        energies = one.true_energy, one.said_energy
        by_formula.setdefault(tuple(sorted(one.symbols)), []).append(energies)
    pairs = [np.zeros((0, 2))]
    for formula, some in by_formula.items():
        found = np.array(some) / len(formula)
        pairs.append(1000 * (found - found.mean(axis=0)))
    return np.concatenate(pairs)


def dipole_pairs(compared: Sequence[Compared]) -> Array:
    """Return the components of dipoles, those of the label and those said: (n, 2), in e·Å."""
    pairs = [
        np.stack([one.true_dipole, one.said_dipole], axis=-1)
        for one in compared
        if one.said_dipole is not None and one.true_dipole is not None
    ]
    return np.concatenate([np.zeros((0, 2)), *pairs])


def mean_error(pairs: Array) -> float:
    """Return the mean absolute difference of pairs, shape (n, 2), in their unit."""
    return float(np.abs(pairs[:, 0] - pairs[:, 1]).mean())
