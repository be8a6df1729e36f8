"""Nosé-Hoover's thermostat and Parrinello-Rahman's barostat, as Melchionna combined them.

Notes:
    For atoms at r (their centre at R0) with momenta p, a cell h of volume V (V0 at the start) with
    its strain rate η, and the thermostat's friction ζ:

        dr/dt = p/m + η (r - R0)
        dp/dt = F - (η + ζ) p
        dζ/dt = (T/T0 - 1) / τT²
        dη/dt = V/V0 (P - P0) / f
        dh/dt = η h

    T0 is `temperature` (K), τT `ttime` (fs), P0 the pressure (eV/Å³) and f `pfactor`, the bulk
    modulus times the square of the barostat's time. S. Melchionna, G. Ciccotti and B. L. Holian,
    Mol. Phys. 78, 533 (1993); S. Melchionna, Phys. Rev. E 61, 6165 (2000). ASE's `MelchionnaNPT`
    integrates them by centred differences: B. L. Holian et al., Phys. Rev. A 41, 4552 (1990).
"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.md.melchionna import MelchionnaNPT
from pydantic import Field

from aimspax_core.sampling.integrators.centre_of_mass import bring_to_rest
from aimspax_core.sampling.integrators.moving_cell import MaskKeys, PressureKeys, pressure_au
from aimspax_core.settings.ensembles import Ensemble, Kept
from aimspax_core.settings.values import Finite, Positive


class MelchionnaKeys(MaskKeys, PressureKeys):
    """The keys of Nosé-Hoover and Parrinello-Rahman."""

    external_stress: Finite = Field(6.24e-7, description="Pressure (eV/Å³).")
    ttime: Positive | None = Field(
        30.0, description="Time of the thermostat (fs); none: no thermostat."
    )
    pfactor: Positive | None = Field(
        100.0,
        description="Barostat constant, multiplied by ASE's fs as in the original; none: a rigid "
        "cell.",
    )


def _build(atoms: Atoms, md: MelchionnaKeys, rng: np.random.Generator) -> MelchionnaNPT:
    """Return the integrator; momenta are left to the last bit as they are.

    `pfactor` is a pressure times a time squared (eV/Å³, ASE's unit of time); that it is multiplied
    by ASE's fs once is aims-PAX's reading of the setting, kept so that the same file means the
    same dynamics.
    """
    momenta = atoms.get_momenta()
    # Its constructor shifts all momenta by what rounding left of their sum, and prints it.
    atoms.set_momenta(np.zeros_like(momenta))
    dynamics = MelchionnaNPT(
        atoms,
        md.timestep * units.fs,
        temperature_K=md.temperature,
        externalstress=_pressure(md),
        ttime=None if md.ttime is None else md.ttime * units.fs,
        pfactor=None if md.pfactor is None else md.pfactor * units.fs,
        mask=None if md.mask is None else np.array(md.mask),
    )
    atoms.set_momenta(momenta)
    return dynamics


def _pressure(md: MelchionnaKeys) -> float:
    return pressure_au(md, md.external_stress)


def _turn(atoms: Atoms) -> None:
    """Turn atoms, momenta and a cell that is not triangular so that it is.

    They turn rigidly, and a left-handed cell stays left-handed. A `mask` then means the axes of the
    turned cell, where c lies along z, and b in the yz plane.
    """
    cell = atoms.cell.array
    if not (np.triu(cell, 1).any() and np.tril(cell, -1).any()):
        return
    # Noise in a lower triangular cell is no reason to swap its axes.
    noise = 1e-8 * np.abs(cell).max()
    form = "lower" if np.abs(np.triu(cell, 1)).max() < noise else "upper"
    turned, turn = atoms.cell.standard_form(form)
    momenta = atoms.get_momenta()
    atoms.set_positions(atoms.positions @ turn.T)
    atoms.set_momenta(momenta @ turn.T)
    atoms.set_cell(turned.array + 0.0)  # no -0.0


def _take_over(atoms: Atoms, md: MelchionnaKeys, rng: np.random.Generator) -> None:
    """Turn the atoms as at a start, and bring their centre of mass to rest."""
    _turn(atoms)
    bring_to_rest(atoms)


MELCHIONNA = Ensemble(
    keys=MelchionnaKeys,
    build=_build,
    moves_cell=True,
    cannot_hold="its integrator moves all atoms with the cell, and counts 3N degrees of freedom",
    needs_stress=lambda md: md.pfactor is not None,
    pressure=_pressure,
    holds_centre=lambda md: True,
    kept={
        "MelchionnaNPT": Kept(
            variables=(
                *("h", "h_past", "inv_h", "q", "q_past", "q_future", "eta", "eta_past"),
                *("zeta", "zeta_past", "zeta_integrated", "timeelapsed", "pfact", "initialized"),
            ),
            constants=("dt", "ttime", "pfactor_given", "mask"),
            once="initialized",  # before its first step it has no past
        )
    },
    fit=_turn,
    take_over=_take_over,
)
"""The barostat `npt`. Its integrator takes triangular cells only, so any other is turned."""
