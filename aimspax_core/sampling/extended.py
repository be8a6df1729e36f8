"""What integrators keep beyond positions, momenta and cell: thermostats, barostats, the past.

ASE has no common way to ask for it, so each ensemble names the attributes, as ASE 3.29 has them:
see `aimspax_core.settings.ensembles.Kept`.
"""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np
from ase.md.md import MolecularDynamics

from aimspax_core.errors import ExplodedError
from aimspax_core.settings.ensembles import ENSEMBLES, Kept


def extras(dynamics: MolecularDynamics) -> dict[str, Any]:
    """Return what an integrator keeps, as JSON data; empty if it keeps nothing.

    Returns:
        Keys `integrator` (ASE's class), `constants` and `variables` (both by attribute, in ASE's
        units; numbers read back exactly).

    Raises:
        ExplodedError: One of the variables is not finite.
    """
    name, kept = type(dynamics).__name__, _kept(dynamics)
    if kept is None or (kept.once and not getattr(dynamics, kept.once)):
        return {}
    values = {v: np.asarray(attrgetter(v)(dynamics), float) for v in kept.variables}
    for variable, value in values.items():
        if not np.isfinite(value).all():
            raise ExplodedError(f"{variable} of {name} is not a finite number")
    return {
        "integrator": name,
        "constants": _constants(dynamics, kept),
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
    kept = _kept(dynamics)
    if kept is None or data.get("integrator") != type(dynamics).__name__:
        return False
    if data["constants"] != _constants(dynamics, kept):
        return False
    # [()] makes NumPy's scalars of single numbers: what the integrators have after a step.
    values = {path: np.array(value, float)[()] for path, value in data["variables"].items()}
    if any(np.shape(attrgetter(v)(dynamics)) != np.shape(values[v]) for v in kept.lengths):
        return False
    for path, value in values.items():
        owner, _, attribute = path.rpartition(".")
        setattr(attrgetter(owner)(dynamics) if owner else dynamics, attribute, value)
    return True


def _constants(dynamics: MolecularDynamics, kept: Kept) -> dict[str, Any]:
    return {name: np.asarray(attrgetter(name)(dynamics)).tolist() for name in kept.constants}


def _kept(dynamics: MolecularDynamics) -> Kept | None:
    """What an integrator keeps; None: nothing."""
    return _by_class().get(type(dynamics).__name__)


@cache
def _by_class() -> dict[str, Kept]:
    """What the integrators of all ensembles keep, by the names of their classes."""
    return {name: kept for row in ENSEMBLES for name, kept in row.ensemble.kept.items()}
