"""Extended tight binding through tblite: GFN1-xTB and GFN2-xTB.

Sources: GFN1 doi:10.1021/acs.jctc.7b00118, GFN2 doi:10.1021/acs.jctc.8b01176.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, InputError, all_changes
from tblite.ase import TBLite

from aimspax_core.errors import LabelError
from aimspax_core.labels.label import Label
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.reference.tblite.states import electrons_refused
from aimspax_core.versions import version_of


class _Calculator(TBLite):
    """tblite's ASE calculator, with a structure's own charge and multiplicity if it has them.

    Its answer does not depend on the structure before: else MD that is cut would go another way.
    tblite's `cache_api=False` does not see to that: it begins with the last wave function.
    """

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        self._xtb = self._res = None
        if atoms is not None and "charge" in atoms.info:
            self.parameters["charge"] = atoms.info["charge"]
        if atoms is not None and "spin" in atoms.info:
            self.parameters["multiplicity"] = int(atoms.info["spin"])
        super().calculate(atoms, properties, system_changes)


class TbliteEngine:
    """A reference that runs in this process; a small molecule takes milliseconds.

    A structure's `info["charge"]` (e) and `info["spin"]` (multiplicity) count if they are there,
    else `charge` and `spin` of the settings.
    """

    def __init__(self, settings: TbliteReference) -> None:
        self._settings = settings
        self._version = version_of("tblite")

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; the limit of iterations changes no answer that there is."""
        return {**self._settings.model_dump(exclude={"max_iterations"}), "version": self._version}

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        settings = self._settings
        calculator: Calculator = _Calculator(
            method=settings.method,
            charge=settings.charge,
            multiplicity=settings.spin,
            accuracy=settings.accuracy,
            max_iterations=settings.max_iterations,
            electronic_temperature=settings.electronic_temperature,
            verbosity=0,
        )
        return calculator

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; an SCF that does not converge would not the next time either."""
        own = {"charge", "spin"} & {*atoms.info}
        if own and (wrong := electrons_refused(self._settings, atoms)) is not None:
            raise LabelError(wrong.text)
        began = time.perf_counter()
        bare = Atoms(
            atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info
        )
        bare.calc = self.calculator()
        try:
            energy, forces = float(bare.get_potential_energy()), np.array(bare.get_forces())
        except (CalculationFailed, InputError) as error:
            raise LabelError(f"{self._settings.method}: {error}") from error
        stress = bare.get_stress(voigt=False) if bare.pbc.all() else None
        dipole = None if bare.pbc.any() else np.array(bare.get_dipole_moment())
        seconds = time.perf_counter() - began
        provenance = {"engine": "tblite", "method": self._settings.method, "version": self._version}
        return Label(energy, forces, stress, {**provenance, "wall_s": seconds}, dipole=dipole)
