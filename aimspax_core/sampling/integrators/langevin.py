"""Langevin dynamics: the canonical ensemble (N, V, T), by friction and noise.

Notes:
    For an atom of mass m at x with velocity v under the force F:

        dx = v dt
        m dv = F dt - m γ v dt + sqrt(2 m γ kT) dW

    γ is `friction` (1/fs), T `temperature` (K) and dW the increment of a Wiener process. ASE's
    `Langevin` integrates it to second order in the time step: E. Vanden-Eijnden and G. Ciccotti,
    Chem. Phys. Lett. 429, 310 (2006). Constraints are held as in its equation 39: noise and
    friction act on the free coordinates alone.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from pydantic import Field

from aimspax_core.sampling.integrators.centre_of_mass import CentreKeys, hold, is_held
from aimspax_core.settings.ensembles import Ensemble
from aimspax_core.settings.values import Positive


class LangevinKeys(CentreKeys):
    """The keys of Langevin dynamics."""

    friction: Positive = Field(0.001, description="Friction (1/fs).")


def _build(atoms: Atoms, md: LangevinKeys, rng: np.random.Generator) -> Langevin:
    hold(atoms, md)
    return Langevin(
        atoms,
        md.timestep * units.fs,
        temperature_K=md.temperature,
        friction=md.friction / units.fs,
        fixcm=False,
        rng=rng,
    )


LANGEVIN = Ensemble(
    keys=LangevinKeys, build=_build, holds_centre=is_held, noisy=True, cannot_hold=""
)
"""Langevin dynamics; its state is positions and momenta, and that of the random generator."""
