"""What a file says of a structure's total charge and multiplicity, under whichever name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aimspax_core.errors import StructureError
from aimspax_core.settings.reading.mistakes import value_text

NAMES: Mapping[str, str] = {"charge": "total_charge", "spin": "total_spin"}
"""`charge` (e) and `spin` (2S+1), and what datasets call them: `MISC.total_charge_key` and
`total_spin_key`."""

_ALLOWED = {"charge": "a number", "spin": "the multiplicity 2S+1: 1, 2, 3, …"}


def own_electrons(info: Mapping[str, Any], names: Mapping[str, str] = NAMES) -> dict[str, float]:
    """Return `charge` (e) and `spin` (2S+1) as far as a structure says them.

    Args:
        info: All that a file says of the structure.
        names: What datasets call them.

    Raises:
        StructureError: One is no number, or is there under both names with two values.
    """
    found = {}
    for name, other in names.items():
        said = {
            key: _number(info[key], key, _ALLOWED[name])
            for key in (name, other)
            if key in info and not is_unsaid(info[key])
        }
        if len({*said.values()}) > 1:
            both = ", ".join(f"{key} {value:g}" for key, value in said.items())
            raise StructureError(f"found {both}; allowed: one {name}")
        if said:
            found[name] = next(iter(said.values()))
    return found


def is_unsaid(value: Any) -> bool:
    """Whether a value says nothing: None, as programs write what they do not know."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))


def _number(value: Any, name: str, allowed: str) -> float:
    try:
        number = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        number = np.asarray(np.nan)
    if number.shape != () or not np.isfinite(number):
        raise StructureError(f"{name}: found {value_text(value)}; allowed: {allowed}")
    return float(number)
