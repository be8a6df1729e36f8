"""Numbers that are allowed, and far from what is usual: another unit may be meant.

Usual are time steps of 0.25 to 2 fs, cutoffs of 4 to 7 Å, and force errors of 1 to 200 meV/Å.
"""

from __future__ import annotations

from collections.abc import Iterator

from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings

_TIMESTEP_FS = (0.05, 5.0)
_CUTOFF = (2.5, 12.0)
_ACCURACY = (2e-4, 1.0)
_HYDROGEN_HARTREE = (-1.0, 0.0)
"""Where the energy of a hydrogen atom lies in Hartree (-0.5); in eV it is below -10."""


def project_doubts(project: ProjectSettings, model: ModelSettings) -> Iterator[str]:
    """Yield a note on each doubtful number of `aimsPAX.yaml`, and on cells without stress."""
    by_index = project.MD if isinstance(project.MD, dict) else {None: project.MD}
    for index, md in by_index.items():
        place = "MD" if index is None else f"MD.{index}"
        if not _TIMESTEP_FS[0] <= md.timestep <= _TIMESTEP_FS[1]:
            yield f"{place}.timestep is {md.timestep:g} fs; usual are 0.25 to 2 fs"
        if md.ensemble.moves_cell and not model.stress:
            yield (
                f"{place}.stat_ensemble moves the cell by the stress of models that do not train "
                "on stress; usual is compute_stress: True with loss: stress"
            )
    for name in ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"):
        section = getattr(project, name)
        wanted = None if section is None else section.desired_acc
        if wanted and not _ACCURACY[0] <= wanted <= _ACCURACY[1]:
            yield f"{name}.desired_acc is {wanted:g} eV/Å; usual are 0.001 to 0.2 eV/Å"


def model_doubts(model: ModelSettings) -> Iterator[str]:
    """Yield a note on each doubtful number of `mace.yaml`."""
    cutoff = getattr(model.ARCHITECTURE, "r_max", None)  # families may have none
    if cutoff is not None and not _CUTOFF[0] <= cutoff <= _CUTOFF[1]:
        yield f"ARCHITECTURE.r_max is {cutoff:g} Å; usual are 4 to 7 Å"
    energies = getattr(model.ARCHITECTURE, "atomic_energies", None) or {}
    key = "ARCHITECTURE.atomic_energies"
    above = [f"{name} {energy:g}" for name, energy in energies.items() if energy > 0]
    if above:
        yield f"{key}: {', '.join(above)} eV; the energy of a free atom is usually below 0"
    hydrogen = energies.get("H", energies.get(1))
    if hydrogen is not None and _HYDROGEN_HARTREE[0] < hydrogen < _HYDROGEN_HARTREE[1]:
        yield f"{key}: H {hydrogen:g} eV; in eV about -13.6 is usual, in Hartree -0.5"
