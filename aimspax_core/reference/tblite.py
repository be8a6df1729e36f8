"""Extended tight binding through tblite: GFN1-xTB and GFN2-xTB.

Sources: GFN1 doi:10.1021/acs.jctc.7b00118, GFN2 doi:10.1021/acs.jctc.8b01176.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator
from tblite.ase import TBLite

from aimspax_core.errors import LabelError
from aimspax_core.reference.base import Label
from aimspax_core.settings.project import TbliteReference


class TbliteEngine:
    """A reference that runs in this process; a small molecule takes milliseconds."""

    def __init__(self, settings: TbliteReference) -> None:
        self._settings = settings
        self._version = importlib.metadata.version("tblite")

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`."""
        return {**self._settings.model_dump(), "version": self._version}

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        settings = self._settings
        calculator: Calculator = TBLite(
            method=settings.method,
            charge=settings.charge,
            multiplicity=settings.spin,
            accuracy=settings.accuracy,
            max_iterations=settings.max_iterations,
            electronic_temperature=settings.electronic_temperature,
            cache_api=False,  # the answer must not depend on the structure before
            verbosity=0,
        )
        return calculator

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; an SCF that does not converge is not transient."""
        began = time.perf_counter()
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = self.calculator()
        try:
            energy, forces = float(bare.get_potential_energy()), np.array(bare.get_forces())
        except CalculationFailed as error:
            raise LabelError(f"{self._settings.method}: {error}") from error
        stress = bare.get_stress(voigt=False) if bare.pbc.all() else None
        seconds = time.perf_counter() - began
        provenance = {"engine": "tblite", "method": self._settings.method, "version": self._version}
        return Label(energy, forces, stress, {**provenance, "wall_s": seconds})
