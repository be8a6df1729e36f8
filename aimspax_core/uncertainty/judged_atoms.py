"""Of which atoms of a structure the uncertainty is."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.prediction import Prediction

UncertaintyOf: TypeAlias = Literal["all", "free_atoms"]
"""Of all atoms, or without those that cannot move at all."""


def judged(
    of: UncertaintyOf, prediction: Prediction, structure: Atoms, free: NDArray[np.bool_]
) -> tuple[Prediction, Atoms]:
    """Return what a measure is to take for a committee's prediction and its structure.

    Args:
        of: Of which atoms the uncertainty is.
        prediction: The prediction; energies and stress, which are of all atoms, stay.
        structure: The structure of N atoms.
        free: Which of them can move, (N,).
    """
    if of == "all" or free.all():
        return prediction, structure
    forces, members = prediction.forces[free], prediction.member_forces[:, free]
    return replace(prediction, forces=forces, member_forces=members), structure[free]
