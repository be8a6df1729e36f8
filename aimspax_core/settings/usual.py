"""What numbers are usual for a key: others are allowed, and questioned by a note."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aimspax_core.text import and_list


@dataclass(frozen=True)
class Usual:
    """Between which numbers a value is taken as meant.

    Attributes:
        low: The smallest one, of the absolute value; 0 itself, which turns things off, is usual.
        high: The largest one.
        unit: Behind the number.
        text: What is usual, and which unit may be meant.
    """

    low: float
    high: float
    unit: str
    text: str

    def doubt(self, *values: float | None) -> str | None:
        """Return what to say of values; None if all are usual, or not finite."""
        odd = [value for value in dict.fromkeys(values) if not self._holds(value)]
        if not odd:
            return None
        return f"is {and_list(f'{value:g}{self.unit}' for value in odd)}; {self.text}"

    def _holds(self, value: float | None) -> bool:
        off = value is None or value == 0 or math.isinf(value)
        return off or self.low <= abs(value or 0.0) <= self.high
