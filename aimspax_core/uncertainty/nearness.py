"""How near two structures of one composition are, by invariant features of their atoms.

| symbol | what it is | variable |
| --- | --- | --- |
| h[i] | features of atom i that no rotation changes, (K,) | `features` |
| m[z] | their mean over the atoms of element z | parts of `fingerprint` |
| d(a, b) | Euclidean distance of all m[z] of two structures | `distance` |
| t | median distance of known structures to the nearest other one | `typical` |

Distances are told as d/t: 1 is as far apart as known structures are from each other. Features of
two models, or of one before and after training, must not be mixed. t changes with each structure
that becomes known, and what tells structures apart is a small part of their features: sketches are
of the features themselves, with more digits, and t stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

LEAST_KNOWN = 5
"""Known structures from which on there is a typical distance."""

SHORT = 32
"""Numbers of a sketch; its distances are within an eighth of the true ones, as a rule."""


@dataclass(frozen=True)
class Place:
    """Where a structure is among others.

    Attributes:
        distance: To the nearest known structure, in units of `typical`.
        sketch: Numbers whose Euclidean distance to those of another structure is nearly d,
            whatever either of them was placed among.
        unit: The typical distance t of those that it was placed among.
    """

    distance: float
    sketch: tuple[float, ...]
    unit: float


def fingerprint(features: Array, numbers: NDArray[np.integer]) -> Array:
    """Return the mean features (K,) of the atoms of each element, one after another.

    Args:
        features: Of N atoms, (N, K).
        numbers: Their atomic numbers, (N,).
    """
    return np.concatenate([features[numbers == z].mean(axis=0) for z in np.unique(numbers)])


def typical(known: Array) -> float | None:
    """Return the typical distance of structures, of fingerprints (n, d); None: they are too few."""
    if len(known) < LEAST_KNOWN:
        return None
    apart = cdist(known, known)
    np.fill_diagonal(apart, np.inf)
    found = float(np.median(apart.min(axis=1)))
    return found if found > 0 else None


def places(asked: Sequence[Array], known: Array) -> list[Place | None]:
    """Return where structures are among known ones of the same composition.

    Args:
        asked: Fingerprints (d,).
        known: Fingerprints (n, d).

    Returns:
        None where there is no typical distance.
    """
    unit = typical(known)
    if unit is None:
        return [None] * len(asked)
    return [
        Place(
            distance=_rounded(float(cdist([one], known).min()) / unit, 5),
            sketch=tuple(_rounded(float(value), 9) for value in _sketched(one)),
            unit=_rounded(unit, 5),
        )
        for one in asked
    ]


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the distance of two structures by their sketches, in the unit of the features."""
    return float(np.linalg.norm(np.subtract(one, other)))


def _sketched(vector: Array) -> Array:
    """Project a vector on directions drawn once and for all (Johnson and Lindenstrauss, 1984)."""
    if len(vector) <= SHORT:
        return vector
    return np.random.default_rng(0).normal(size=(SHORT, len(vector))) @ vector / SHORT**0.5


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
