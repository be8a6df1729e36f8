"""What a committee of models says about a structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a committee of M members says about one structure of N atoms.

    Attributes:
        energy: Mean energy in eV.
        forces: Mean forces, shape (N, 3), in eV/Å.
        member_energies: Shape (M,), in eV.
        member_forces: Shape (M, N, 3), in eV/Å.
        stress: Mean stress, shape (3, 3), in eV/Å³, with ASE's sign; None if it was not asked for,
            or the structure is not periodic in all three directions.
        beside: What the models predict besides, by its names in `Label`, as their mean: `dipole`
            (3,), e·Å, about the origin; `hirshfeld_ratios` (N,).
    """

    energy: float
    forces: Array
    member_energies: Array
    member_forces: Array
    stress: Array | None = None
    beside: Mapping[str, Array] = field(default_factory=dict)
