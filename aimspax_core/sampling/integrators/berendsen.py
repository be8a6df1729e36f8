"""Berendsen's thermostat and barostat: towards temperature and pressure, in no exact ensemble.

Notes:
    In each step dt velocities are scaled by λ, the cell and positions by μ:

        λ² = 1 + dt/τT (T0/T - 1)
        μ  = (1 - dt/τP β (P0 - P))^(1/3)

    T0 is `temperature` (K), τT `taut` (fs), P0 the pressure (eV/Å³), τP `taup` (fs) and β
    `compressibility_au` (Å³/eV). H. J. C. Berendsen et al., J. Chem. Phys. 81, 3684 (1984). With a
    `mask`, the pressure along each direction scales that direction alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen, NPTBerendsen
from pydantic import Field

from aimspax_core.sampling.integrators.centre_of_mass import CentreKeys, hold, is_held
from aimspax_core.sampling.integrators.moving_cell import (
    SCALES_ALL,
    MaskKeys,
    PressureKeys,
    mask_mistake,
    pressure_au,
    why_no_mask,
)
from aimspax_core.settings.ensembles import Ensemble
from aimspax_core.settings.values import Finite, Positive


class BerendsenKeys(CentreKeys, MaskKeys, PressureKeys):
    """The keys of Berendsen's thermostat and barostat."""

    pressure_au: Finite = Field(3.4e-7, description="Pressure (eV/Å³).")
    taut: Positive = Field(500.0, description="Temperature coupling (fs).")
    taup: Positive = Field(1000.0, description="Pressure coupling (fs).")
    compressibility_au: Positive = Field(
        round(4.57e-5 / (1e5 * units.Pascal), 3),
        description="Compressibility (Å³/eV); that of water if not given.",
    )


def _build(atoms: Atoms, md: BerendsenKeys, rng: np.random.Generator) -> MolecularDynamics:
    hold(atoms, md)
    values: dict[str, Any] = {
        "timestep": md.timestep * units.fs,
        "temperature_K": md.temperature,
        "pressure_au": _pressure(md),
        "compressibility_au": md.compressibility_au,
        "taut": md.taut * units.fs,
        "taup": md.taup * units.fs,
        "fixcm": False,
    }
    if md.mask is None:
        return NPTBerendsen(atoms, **values)
    return Inhomogeneous_NPTBerendsen(atoms, mask=md.mask, **values)


def _pressure(md: BerendsenKeys) -> float:
    return pressure_au(md, md.pressure_au)


BERENDSEN = Ensemble(
    keys=BerendsenKeys,
    build=_build,
    moves_cell=True,
    cannot_hold=SCALES_ALL,
    needs_stress=lambda md: True,
    pressure=_pressure,
    holds_centre=is_held,
    mistake=partial(mask_mistake, "berendsen"),
    why_not=partial(why_no_mask, "berendsen"),
)
"""Berendsen's barostat; its state is positions, momenta and cell."""
