"""A reference as an ASE calculator, for MD that it drives."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.stress import full_3x3_to_voigt_6_stress

from aimspax_core.errors import LabelError
from aimspax_core.reference.base import Reference


class LabelCalculator(Calculator):
    """Gives what `label` says of a structure, each time from the beginning.

    An error that the structure would meet again becomes ASE's `CalculationFailed`; a transient
    `LabelError` passes as it is.

    Args:
        engine: The reference that is asked.
    """

    def __init__(self, engine: Reference) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces", "stress"]
        self._engine = engine

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """See ASE's `Calculator.calculate`; stress is there if the label has it.

        Raises:
            CalculationFailed: The reference has no answer for this structure.
            LabelError: Transient: it may have one the next time.
            PropertyNotImplementedError: Stress was asked for, but the label has none.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        try:
            label = self._engine.label(self.atoms)
        except LabelError as error:
            if error.transient:
                raise
            raise CalculationFailed(str(error)) from error
        self.results = {"energy": label.energy, "forces": label.forces}
        if label.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(label.stress)
        elif "stress" in (properties or ()):
            raise PropertyNotImplementedError("the reference gives no stress for this structure")
