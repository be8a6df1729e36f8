"""A driver in the place of an ASE calculator, for MD of one structure at a time."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from aimspax_core.model.family import Driver


class ElectronsCalculator(Calculator):
    """A calculator for which a structure is another one if it has another charge or multiplicity.

    ASE does not look at `info`, and would give what was computed of the same positions before.
    """

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation."""
        changes = list(super().check_state(atoms, tol))
        if not changes and self.atoms is not None:
            return [n for n in ("charge", "spin") if atoms.info.get(n) != self.atoms.info.get(n)]
        return changes


class DriverCalculator(ElectronsCalculator):
    """Energy (eV), forces (eV/Å) and, where all directions are periodic, stress (eV/Å³).

    Args:
        driver: What predicts; NaN, if the structure is beyond all bounds.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Predict all there is: stress that is asked for after the forces costs nothing more."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        (found,) = self._driver.evaluate([self.atoms], stress=bool(self.atoms.pbc.all()))
        self.results = {
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
        }
        if found.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
