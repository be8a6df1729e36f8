"""What ensembles with a moving cell share: the keys `pressure` and `mask`."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from pydantic import Field

from aimspax_core.settings.ensembles import MDKeys
from aimspax_core.settings.values import Finite, Mask

ATMOSPHERE = 101325.0
"""The pressure of air, in Pa."""

SCALES_ALL = "its barostat scales all positions with the cell, those of held atoms too"
"""Why no barostat can hold atoms in place (`Ensemble.cannot_hold`).

Where a moving cell takes fixed atoms along, they are not fixed; where it does not, its stress is
not that of what moves: layers held at the lattice constant of another cell are strained by it.
"""


class PressureKeys(MDKeys):
    """The key of ensembles that aim at a pressure."""

    pressure: Finite | None = Field(
        None,
        description="Pressure (Pa). Not given: `pressure_au` or `external_stress` where the "
        "barostat has it, else 101325 Pa.",
    )


class MaskKeys(MDKeys):
    """The key of ensembles that can hold some directions of the cell."""

    mask: Mask | None = Field(
        None,
        description="Along which of x, y and z the cell may change (0 or 1 each). `berendsen` and "
        "`mtk` need a cell along the axes; `npt` turns it so that c is along z, and also takes "
        "3 x 3.",
        json_schema_extra={"allowed": "three numbers 0 or 1, or a symmetric 3 x 3 of them"},
    )


def pressure_au(md: PressureKeys, own: float) -> float:
    """Return the target pressure in eV/Å³: `pressure` if given, else `own` (eV/Å³)."""
    return own if md.pressure is None else md.pressure * units.Pascal


def mask_mistake(name: str, key: str, value: Any) -> str | None:
    """Return what is wrong with a mask of an ensemble that takes three numbers only."""
    if key == "mask" and value is not None and not isinstance(value[0], int):
        return f"`{name}` takes three numbers, 0 or 1; 3 x 3 only `npt` does"
    return None


def why_no_mask(name: str, atoms: Atoms, md: MaskKeys) -> str | None:
    """Return why a mask does not fit a cell, for an ensemble whose mask means x, y and z."""
    cell = atoms.cell.array
    if md.mask is None or np.allclose(cell, np.diag(np.diag(cell)), atol=1e-6):
        return None
    return f"`mask` of `{name}` means x, y and z, so the cell's vectors must lie along them"
