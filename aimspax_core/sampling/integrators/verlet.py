"""Newton's equations: the microcanonical ensemble (N, V, E).

Notes:
    `m d²x/dt² = F`, by velocity Verlet, whose error in the energy falls with the square of the
    time step: W. C. Swope et al., J. Chem. Phys. 76, 637 (1982). `temperature` (K) is that of the
    first velocities; nothing holds it.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from aimspax_core.settings.ensembles import Ensemble, MDKeys


def _build(atoms: Atoms, md: MDKeys, rng: np.random.Generator) -> VelocityVerlet:
    return VelocityVerlet(atoms, md.timestep * units.fs)


NVE = Ensemble(
    keys=MDKeys,
    build=_build,
    holds_centre=lambda md: True,
    holds_temperature=False,
    cannot_hold="",
)
"""Velocity Verlet; its state is positions and momenta."""
