"""What a model misses of the energies of labelled structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Residuals:
    """What a model misses of the energies of S structures.

    Attributes:
        counts: Atoms of each element, those in the order of their numbers; shape (S, elements).
        missed: Label minus prediction, shape (S,), in eV. Total energies are subtracted in double
            precision, whatever the model's: those of heavy atoms have no meV in single precision.
    """

    counts: NDArray[np.float64]
    missed: NDArray[np.float64]
