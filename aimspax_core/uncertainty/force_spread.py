"""Measures of uncertainty by the spread of a committee's forces.

Source: aims-PAX (arXiv 2508.12888), "Uncertainty and threshold".

| symbol | what it is | variable | unit |
| --- | --- | --- | --- |
| M, N | members, atoms | `member_forces.shape[:2]` | |
| F[m,a,k] | force of member m on atom a along k = x, y, z | `member_forces` | eV/Å |
| <F>[a,k] | its mean over the members | `member_forces.mean(axis=0)` | eV/Å |
| s[a] | standard deviation of atom a | `atomic_sd(member_forces)` | eV/Å |

    s[a]² = 1/(3M) sum over m and k of (F[m,a,k] - <F>[a,k])²

    max_atomic_sd  = max over a of s[a]
    mean_atomic_sd = 1/N sum over a of s[a]
    ensemble_sd    = (1/N sum over a of s[a]²)^(1/2)

All are 0 for a committee of one, and not finite if any force is not.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.prediction import Prediction


def atomic_sd(member_forces: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each atom's standard deviation of the forces over members and components.

    Args:
        member_forces: Shape (M, N, 3), in eV/Å.

    Returns:
        s, shape (N,), in eV/Å.
    """
    deviation = np.asarray(member_forces, dtype=float)
    deviation = deviation - deviation.mean(axis=0)
    return np.sqrt((deviation**2).mean(axis=(0, 2)))


def max_atomic_sd(prediction: Prediction, structure: Atoms) -> float:
    """Return the largest standard deviation of an atom, in eV/Å."""
    return float(atomic_sd(prediction.member_forces).max())


def mean_atomic_sd(prediction: Prediction, structure: Atoms) -> float:
    """Return the mean standard deviation of the atoms, in eV/Å."""
    return float(atomic_sd(prediction.member_forces).mean())


def ensemble_sd(prediction: Prediction, structure: Atoms) -> float:
    """Return the standard deviation over members, components and atoms, in eV/Å."""
    return float(np.sqrt((atomic_sd(prediction.member_forces) ** 2).mean()))
