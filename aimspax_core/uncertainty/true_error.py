"""The true error of a prediction by a measure of uncertainty: reduced over atoms as the spread is.

A committee of two is held against the measure: the label, and its mirror image beyond the mean
prediction. Each of the two is off from their mean by just the true error, so what the measure says
of them is that error: with `max_atomic_sd`, the largest root mean square over x, y and z of the
force error on an atom.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aimspax_core.prediction import Prediction


def mirrored(mean: Prediction, energy: float, forces: NDArray[np.floating]) -> Prediction:
    """Return the committee of two around a mean prediction: the label, and its mirror image.

    Args:
        mean: The prediction.
        energy: The true energy, in eV.
        forces: The true forces, shape (N, 3), in eV/Å.
    """
    return replace(
        mean,
        member_energies=np.array([energy, 2 * mean.energy - energy]),
        member_forces=np.stack([forces, 2 * mean.forces - forces]),
    )
