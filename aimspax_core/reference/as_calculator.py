"""A reference as an ASE calculator, for MD that it drives."""

from __future__ import annotations

import logging
import time
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
from aimspax_core.labels.label import Label
from aimspax_core.labels.tries import Fate, GiveUp, Tries, after
from aimspax_core.reference.interface import Reference

log = logging.getLogger(f"aimspax.{__name__}")


class LabelCalculator(Calculator):
    """Gives what `label` says of a structure, each time from the beginning.

    An error that the structure would meet again becomes ASE's `CalculationFailed`. After a
    transient error the structure is tried again, as often and with the same backoff as a label
    that was lost: the task would lose all steps since its last saved state. The error of the last
    try passes as it is.

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
            LabelError: Transient: it may have one some other time.
            PropertyNotImplementedError: Stress was asked for, but the label has none.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        label = self._label(self.atoms)
        self.results = {"energy": label.energy, "forces": label.forces}
        if label.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(label.stress)
        elif "stress" in (properties or ()):
            raise PropertyNotImplementedError("the reference gives no stress for this structure")

    def _label(self, atoms: Atoms) -> Label:
        tries = Tries()
        while True:
            try:
                return self._engine.label(atoms)
            except LabelError as error:
                if not error.transient:
                    raise CalculationFailed(str(error)) from error
                tries = tries.lost(Fate.DIED)
                verdict = after(tries, Fate.DIED)
                if isinstance(verdict, GiveUp):
                    raise
                log.warning("a step of MD is tried again in %g s: %s", verdict.delay_s, error)
            time.sleep(verdict.delay_s)
