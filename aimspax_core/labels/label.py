"""A label: what a reference method says of a structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray


@dataclass(frozen=True)
class Label:
    """What the reference says of a structure.

    Attributes:
        energy: Total energy (eV).
        forces: (N, 3), eV/Å.
        stress: (3, 3), eV/Å³, or None if it was not computed.
        provenance: How it came about: engine, version, warnings; seconds (`wall_s`) and `cores`.
        structure: The structure as the engine understood it, in its order, if it tells.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    structure: Atoms | None = None
