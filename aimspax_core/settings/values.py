"""Value types that the settings share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A section of a settings file: unknown keys are mistakes, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _infinity(value: Any) -> Any:
    """Read the spellings of infinity that the original's files use."""
    if isinstance(value, str) and value.strip().lower().removeprefix("+") in {
        "inf", "np.inf", ".inf", "numpy.inf", "math.inf", "infinity",
    }:  # fmt: skip
        return math.inf
    return value


Limit = Annotated[float, BeforeValidator(_infinity), Field(gt=0)]
"""A positive number, or infinity: `inf`, `np.inf`, `.inf`."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
