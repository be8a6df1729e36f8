"""What integrators keep beyond positions, momenta and cell: thermostats, barostats, the past.

ASE has no common way to ask for it, so the attributes are named here, as ASE 3.29 has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from ase.md.md import MolecularDynamics

from aimspax_core.errors import ExplodedError


@dataclass(frozen=True)
class _Kept:
    """Attributes of an integrator.

    Attributes:
        variables: What `step` changes, or the constructor derived from the first cell.
        constants: What the variables mean nothing without. With another mask, for one, a direction
            that is now held would go on moving at the speed that it had.
    """

    variables: tuple[str, ...]
    constants: tuple[str, ...]


_CHAINS = ("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi")
_DAMPING = ("dt", "_thermostat._tdamp", "_barostat._pdamp")
_KEPT = {
    "MelchionnaNPT": _Kept(
        variables=(
            *("h", "h_past", "inv_h", "q", "q_past", "q_future", "eta", "eta_past"),
            *("zeta", "zeta_past", "zeta_integrated", "timeelapsed", "pfact", "initialized"),
        ),
        constants=("dt", "ttime", "pfactor_given", "mask"),
    ),
    "MTKNPT": _Kept((*_CHAINS, "_p_g"), _DAMPING),
    "MaskedMTKNPT": _Kept((*_CHAINS, "_p_c", "_h0_basis"), (*_DAMPING, "mask")),
    "IsotropicMTKNPT": _Kept((*_CHAINS, "_p_eps", "_eps", "_cell0", "_volume0"), _DAMPING),
}
"""By ASE's class; the others keep nothing."""


def extras(dynamics: MolecularDynamics) -> dict[str, Any]:
    """Return what an integrator keeps, as JSON data; empty if it keeps nothing.

    Returns:
        Keys `integrator` (ASE's class), `constants` and `variables` (both by attribute, in ASE's
        units; numbers read back exactly).

    Raises:
        ExplodedError: One of the variables is not finite.
    """
    name = type(dynamics).__name__
    # Before its first step, Melchionna's has no past.
    if name not in _KEPT or not getattr(dynamics, "initialized", True):
        return {}
    values = {v: np.asarray(attrgetter(v)(dynamics), float) for v in _KEPT[name].variables}
    for variable, value in values.items():
        if not np.isfinite(value).all():
            raise ExplodedError(f"{variable} of {name} is not a finite number")
    return {
        "integrator": name,
        "constants": _constants(dynamics),
        "variables": {variable: value.tolist() for variable, value in values.items()},
    }


def restored(dynamics: MolecularDynamics, data: dict[str, Any]) -> bool:
    """Give an integrator back what `extras` took, if it was taken from one like it.

    Args:
        dynamics: A new integrator.
        data: What `extras` returned.

    Returns:
        Whether it was; if not, nothing is changed. One like it has the same class and constants,
        and thermostat and barostat chains of the same length.
    """
    name = type(dynamics).__name__
    if data.get("integrator") != name or data["constants"] != _constants(dynamics):
        return False
    # [()] makes NumPy's scalars of single numbers: what the integrators have after a step.
    values = {path: np.array(value, float)[()] for path, value in data["variables"].items()}
    if any(
        np.shape(attrgetter(c)(dynamics)) != np.shape(values[c]) for c in _CHAINS if c in values
    ):
        return False
    for path, value in values.items():
        owner, _, attribute = path.rpartition(".")
        setattr(attrgetter(owner)(dynamics) if owner else dynamics, attribute, value)
    return True


def _constants(dynamics: MolecularDynamics) -> dict[str, Any]:
    names = _KEPT[type(dynamics).__name__].constants
    return {name: np.asarray(attrgetter(name)(dynamics)).tolist() for name in names}
