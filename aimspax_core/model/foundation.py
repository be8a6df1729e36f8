"""A foundation model that drives dynamics: many structures at once, with dispersion if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator

from aimspax_core.model.committee import Committee, Prediction
from aimspax_core.model.mace import foundation_calculator


class Driver:
    """One foundation model in the place of a committee, with M = 1.

    Args:
        committee: The foundation model.
        dispersion: Calculator of what is added for each structure, or none.
    """

    def __init__(self, committee: Committee, dispersion: Calculator | None = None) -> None:
        self._committee, self._dispersion = committee, dispersion

    def __len__(self) -> int:
        """Return the number of members, 1."""
        return len(self._committee)

    def evaluate(self, structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
        """Predict energy, forces and, if asked for, stress; see `Committee.evaluate`.

        Raises:
            ModelError: A structure has an element that the model was not made for.
        """
        found = self._committee.evaluate(structures, stress)
        if self._dispersion is None:
            return found
        return [
            _with_dispersion(self._dispersion, atoms, prediction)
            for atoms, prediction in zip(structures, found, strict=True)
        ]


def driver(
    model: str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    dispersion: bool = False,
    dispersion_xc: str = "pbe",
    dispersion_cutoff: float = 12.0,
    damping: str = "bj",
) -> Driver:
    """Return a foundation model that can drive dynamics; arguments of `foundation_calculator`.

    Raises:
        ModelError: As `foundation_calculator`; or the model needs inputs beyond a structure.
    """
    calculator: Any = foundation_calculator(
        str(model), device, dtype, dispersion, dispersion_xc, dispersion_cutoff, damping
    )
    correction = None
    if isinstance(calculator, SumCalculator):
        calculator, correction = calculator.mixer.calcs
    return Driver(Committee(calculator.models, device=device, dtype=dtype), correction)


def _with_dispersion(calculator: Calculator, atoms: Atoms, found: Prediction) -> Prediction:
    """Add a calculator's energy, forces and stress to a prediction."""
    if not np.isfinite(found.energy):
        return found
    ours = atoms.copy()
    ours.calc = calculator
    energy, forces = ours.get_potential_energy(), ours.get_forces()
    stress = None if found.stress is None else found.stress + ours.get_stress(voigt=False)
    return replace(
        found,
        energy=found.energy + energy,
        forces=found.forces + forces,
        member_energies=found.member_energies + energy,
        member_forces=found.member_forces + forces,
        stress=stress,
    )
