"""What the committee had said of the last labels, beside what they are."""

from __future__ import annotations

import numpy as np

from aimspax_core.report.compared import (
    Array,
    dipole_pairs,
    energy_pairs,
    force_pairs,
    mean_error,
    thinned,
)
from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source

POINTS = 3000
"""Force components that are listed at most."""


def parity(source: Source) -> contents.Parity | None:
    """Return labels beside what had been said of them; None: nothing was kept of that."""
    if not source.compared:
        return None
    forces, dipoles = force_pairs(source.compared), dipole_pairs(source.compared)
    everything = np.concatenate([*forces.values()])
    listed = thinned(forces, POINTS)
    return contents.Parity(
        labels=len(source.compared),
        mae_f_meV_per_A=1000 * mean_error(everything),
        mae_dipole_me_A=1000 * mean_error(dipoles) if len(dipoles) else None,
        forces_eV_per_A={kind: _listed(found) for kind, found in listed.items()},
        energies_meV_per_atom=_listed(energy_pairs(source.compared)),
        dipoles_e_A=_listed(dipoles),
    )


def _listed(pairs: Array) -> list[tuple[float, float]]:
    return [(float(f"{true:.5g}"), float(f"{said:.5g}")) for true, said in pairs]
