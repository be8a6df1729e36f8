"""A label: energy, forces, stress and more of a structure, from a reference method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

BESIDE = ("dipole", "hirshfeld_ratios")
"""What a label may have beside energy, forces and stress, by its names in `Label`."""

NAMES = {"dipole": "dipole", "hirshfeld_ratios": "Hirshfeld ratios"}
"""What these are called in messages."""


@dataclass(frozen=True)
class Label:
    """Energy, forces and stress of a structure with N atoms.

    Attributes:
        energy: Total energy (eV).
        forces: (N, 3), eV/Å.
        stress: (3, 3), eV/Å³, or None if it was not computed.
        provenance: Where the label comes from: engine, version, warnings; the seconds (`wall_s`)
            and `cores` that it took.
        structure: The structure in the engine's output, in the engine's order of atoms; None if
            the output has none.
        dipole: (3,), e·Å, from negative to positive charge; of a charged structure about the origin
            of its coordinates. Only of what is periodic in no direction; None if it was not
            computed.
        hirshfeld_ratios: (N,), each atom's Hirshfeld volume over that of the free atom; None if
            they were not computed.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    structure: Atoms | None = None
    dipole: NDArray[np.float64] | None = None
    hirshfeld_ratios: NDArray[np.float64] | None = None
