"""What a file says of a structure's total charge and multiplicity, under whichever name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aimspax_core.errors import StructureError
from aimspax_core.settings.reading.mistakes import value_text

NAMES: Mapping[str, str] = {"charge": "total_charge", "spin": "total_spin"}
"""`charge` (e) and `spin` (2S+1), and what datasets call them: `MISC.total_charge_key` and
`total_spin_key`."""

SAID_OF_ALL = "aimspax_said_of_all"
"""Where a frame has, in `info`, those of `charge` and `spin` that earlier releases left out."""

_LIKE_THEM = (
    " charge spin total_charge total_spin tot_charge net_charge totalcharge netcharge mol_charge"
    " molecular_charge chrg multiplicity mult spin_multiplicity spinmultiplicity nelect nelectrons"
    " total_multiplicity n_electrons uhf nunpaired unpaired_electrons tot_magnetization"
    " total_magnetization "
)
"""Other names of them, in lower case."""

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


def unread_electrons(info: Mapping[str, Any], names: Mapping[str, str] = NAMES) -> Iterator[str]:
    """Yield notes on what looks like a charge or multiplicity, under names that are not read.

    Args:
        info: All that a file says of the structure.
        names: What datasets call `charge` and `spin`.
    """
    read = {*names, *names.values()}
    if read & {*info}:
        return
    for key, value in info.items():
        if f" {str(key).lower()} " in _LIKE_THEM and not is_unsaid(value) and np.ndim(value) == 0:
            said = " and ".join(f"{name} or {other}" for name, other in names.items())
            yield f"{key} ({value_text(value)}) is not taken; {said} would be"


def electrons_in_comment(comment: str) -> str | None:
    """Return a note on an XYZ file's comment of two numbers, as others write charge and spin."""
    words = comment.split()
    if len(words) != 2 or words == ["0", "1"]:
        return None
    if re.fullmatch(r"[+-]?\d+", words[0]) is None or re.fullmatch(r"[1-9]\d*", words[1]) is None:
        return None
    return (
        f"its comment '{comment.strip()}' is not taken for charge and multiplicity; charge=… and "
        "spin=… would be"
    )


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
