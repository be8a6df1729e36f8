"""The centre of mass: the key `fixcm`, and how it is brought to rest."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import FixCom
from pydantic import Field

from aimspax_core.settings.ensembles import MDKeys


class CentreKeys(MDKeys):
    """The key of ensembles that hold the centre of mass if they are asked to."""

    fixcm: bool = Field(True, description="Hold the centre of mass.")


def is_held(md: CentreKeys) -> bool:
    """Return whether the centre of mass is held."""
    return md.fixcm


def hold(atoms: Atoms, md: CentreKeys) -> None:
    """Give atoms ASE's constraint if the centre of mass is to be held.

    Notes:
        A constraint and not the integrator's own `fixcm=True`: Langevin's does not sample the
        canonical distribution exactly (ASE 3.28 release notes, merge request 3986), and
        Berendsen's takes the motion away, but its thermostat goes on counting it.
    """
    if md.fixcm:
        atoms.set_constraint(FixCom())


def bring_to_rest(atoms: Atoms) -> None:
    """Take the centre of mass's motion from the momenta (N, 3): `p[a] -= m[a] / M sum_b p[b]`."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, np.newaxis]
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
