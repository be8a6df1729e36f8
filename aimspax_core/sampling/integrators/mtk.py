"""Martyna, Tobias and Klein: a barostat with chains of thermostats, for the exact (N, P, T).

Notes:
    With an isotropic cell of volume V = V0 exp(3ε), ε's momentum p_ε of mass W, and the first link
    of the chain of thermostats with momentum p_η of mass Q, for N atoms:

        dr/dt   = p/m + p_ε/W r
        dp/dt   = F - (1 + 1/N) p_ε/W p - p_η/Q p
        dε/dt   = p_ε/W
        dp_ε/dt = 3 V (P - P0) + (1/N) sum p²/m - p_ξ/R p_ε
        dp_η/dt = sum p²/m - 3N kT0 - (the next link's friction)

    and a chain ξ of its own for the barostat. A flexible cell has a matrix p_g in the place of p_ε.
    T0 is `temperature` (K), P0 the pressure (eV/Å³); Q follows from `tdamp` (fs), W and R from
    `pdamp` (fs). G. J. Martyna, D. J. Tobias and M. L. Klein, J. Chem. Phys. 101, 4177 (1994),
    whose factorization of the Liouville operator ASE integrates by.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT
from pydantic import Field

from aimspax_core.sampling.integrators.moving_cell import (
    ATMOSPHERE,
    SCALES_ALL,
    MaskKeys,
    PressureKeys,
    mask_mistake,
    pressure_au,
    why_no_mask,
)
from aimspax_core.settings.ensembles import Ensemble, Kept
from aimspax_core.settings.values import Count, Positive

_AT_REST = 1e-6
"""Total momentum, in units of its thermal width, below which somebody must have removed it."""

_CHAINS = ("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi")
_DAMPING = ("dt", "_thermostat._tdamp", "_barostat._pdamp")


class IsotropicMTKKeys(PressureKeys):
    """The keys of Martyna, Tobias and Klein."""

    tdamp: Positive = Field(50.0, description="Time of the thermostat (fs).")
    pdamp: Positive = Field(500.0, description="Time of the barostat (fs).")
    tchain: Count = Field(3, description="Length of the thermostat chain.")
    pchain: Count = Field(3, description="Length of the barostat chain.")
    tloop: Count = Field(1, description="Sub-steps of the thermostat.")
    ploop: Count = Field(1, description="Sub-steps of the barostat.")


class MTKKeys(MaskKeys, IsotropicMTKKeys):
    """The keys of Martyna, Tobias and Klein with a flexible cell."""


def _values(md: IsotropicMTKKeys) -> dict[str, Any]:
    return {
        "timestep": md.timestep * units.fs,
        "temperature_K": md.temperature,
        "pressure_au": _pressure(md),
        "tdamp": md.tdamp * units.fs,
        "pdamp": md.pdamp * units.fs,
        **{name: getattr(md, name) for name in ("tchain", "pchain", "tloop", "ploop")},
    }


def _isotropic(atoms: Atoms, md: IsotropicMTKKeys, rng: np.random.Generator) -> MolecularDynamics:
    return IsotropicMTKNPT(atoms, **_values(md))


def _flexible(atoms: Atoms, md: MTKKeys, rng: np.random.Generator) -> MolecularDynamics:
    if md.mask is None:
        return MTKNPT(atoms, **_values(md))
    # ASE indexes with the mask; a tuple of truth values, its documented type, selects nothing.
    mask: Any = np.array(md.mask, dtype=bool)
    return MaskedMTKNPT(atoms, mask=mask, **_values(md))


def _pressure(md: IsotropicMTKKeys) -> float:
    return pressure_au(md, ATMOSPHERE * units.Pascal)


def _why_not(atoms: Atoms, md: MTKKeys) -> str | None:
    if md.mask is not None and not any(md.mask):
        return "`mtk` needs a direction that may change, and `mask` forbids all three"
    return why_no_mask("mtk", atoms, md)


def _no_mask(key: str, value: Any) -> str | None:
    if key == "mask" and value is not None:
        return "`isomtk` scales the whole cell; allowed: nothing"
    return None


def _set_in_motion(atoms: Atoms, md: IsotropicMTKKeys, rng: np.random.Generator) -> None:
    """Give a centre of mass at rest its thermal motion: the thermostat counts 3N freedoms."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, np.newaxis]
    width = np.sqrt(masses.sum() * units.kB * md.temperature)
    if np.linalg.norm(momenta.sum(axis=0)) < _AT_REST * width:
        drawn = width * rng.standard_normal(3)
        atoms.set_momenta(momenta + masses / masses.sum() * drawn)


MTK = Ensemble(
    keys=MTKKeys,
    build=_flexible,
    moves_cell=True,
    cannot_hold=SCALES_ALL,
    needs_stress=lambda md: True,
    pressure=_pressure,
    kept={
        "MTKNPT": Kept((*_CHAINS, "_p_g"), _DAMPING, lengths=_CHAINS),
        "MaskedMTKNPT": Kept((*_CHAINS, "_p_c", "_h0_basis"), (*_DAMPING, "mask"), lengths=_CHAINS),
    },
    mistake=partial(mask_mistake, "mtk"),
    why_not=_why_not,
    take_over=_set_in_motion,
)
"""With a flexible cell; a `mask` holds some of its directions."""

ISOMTK = Ensemble(
    keys=IsotropicMTKKeys,
    build=_isotropic,
    moves_cell=True,
    cannot_hold=SCALES_ALL,
    needs_stress=lambda md: True,
    pressure=_pressure,
    kept={
        "IsotropicMTKNPT": Kept(
            (*_CHAINS, "_p_eps", "_eps", "_cell0", "_volume0"), _DAMPING, lengths=_CHAINS
        )
    },
    mistake=_no_mask,
    take_over=_set_in_motion,
)
"""With a cell that keeps its shape."""
