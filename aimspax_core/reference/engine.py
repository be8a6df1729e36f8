"""What a reference engine is, and what it returns."""

from __future__ import annotations

from typing import Any, Protocol

from ase import Atoms
from ase.calculators.calculator import Calculator

from aimspax_core.labels.label import Label


class Reference(Protocol):
    """A method that labels structures."""

    def identity(self) -> dict[str, Any]:
        """Return everything that changes the answer, as JSON data; part of every label's key."""
        ...

    def label(self, atoms: Atoms) -> Label:
        """Return energy and forces of a structure.

        Raises:
            LabelError: The engine gave no usable answer.
        """
        ...

    def calculator(self) -> Calculator:
        """Return an ASE calculator of the same method, for MD driven by the reference."""
        ...
