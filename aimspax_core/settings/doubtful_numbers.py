"""Numbers that are allowed, and far from what is usual: another unit may be meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ase.data import chemical_symbols
from ase.units import Hartree, Rydberg

from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.md import MD
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.series import entries
from aimspax_core.settings.usual import Usual
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import and_list

Doubt = tuple[str, str]
"""The key, and a sentence that goes on from it."""


_PASCAL = Usual(5e4, 1e12, " Pa", "usual are 1e5 (1 bar) to 1e11 Pa (100 GPa)")
_EV_PER_A3 = Usual(
    1e-9, 0.6, " eV/Å³", "usual are 6.24e-7 (1 bar) to 0.6 eV/Å³ (100 GPa); `pressure` is in Pa"
)
_COUPLING = Usual(20, 1e5, " fs", "usual are 100 to 5000 fs")
_THERMOSTAT = Usual(5, 1e4, " fs", "usual are 20 to 500 fs")
_ACCURACY = Usual(2e-4, 1.0, " eV/Å", "usual are 0.001 to 0.2 eV/Å")
_STEPS = Usual(1, 10_000, " MD steps", "usual are 5 to 500")

_MD = {
    "timestep": Usual(0.05, 5, " fs", "usual are 0.25 to 2 fs"),
    "temperature": Usual(10, 1e4, " K", "usual are 100 to 3000 K (0.0259 eV is 300 K)"),
    "friction": Usual(1e-5, 0.1, "/fs", "usual are 0.001 to 0.05/fs (1/ps is 0.001/fs)"),
    "pressure": _PASCAL,
    "pressure_au": _EV_PER_A3,
    "external_stress": _EV_PER_A3,
    "taut": _COUPLING,
    "taup": _COUPLING,
    "pdamp": _COUPLING,
    "tdamp": _THERMOSTAT,
    "ttime": _THERMOSTAT,
    "compressibility_au": Usual(
        0.05, 1e3, " Å³/eV", "usual are 0.5 to 100 Å³/eV (4.57e-5/bar, water's, is 73 Å³/eV)"
    ),
}
_PHASES = {
    "desired_acc": _ACCURACY,
    "valid_ratio": Usual(0, 0.5, "", "usual are 0.1 to 0.25: what validates is not trained on"),
    "skip_step_initial": _STEPS,
    "skip_step_mlff": _STEPS,
    "c_x": Usual(
        0, 2, "", "usual are -0.3 to 0.5: the threshold is 1 + c_x times the mean uncertainty"
    ),
    "force_error": Usual(2e-4, 5.0, " eV/Å", "usual are 0.01 to 0.5 eV/Å"),
    "ensemble_size": Usual(1, 16, " members", "usual are 2 to 8"),
}
_GATE = {
    "min_distance": Usual(0, 0.8, "", "usual are 0.4 to 0.6: bonds are about 1"),
    "max_force": Usual(5, 1000, " eV/Å", "usual are 10 to 100 eV/Å"),
    "max_energy_deviation": Usual(0.1, 100, " eV/atom", "usual are 1 to 10 eV/atom"),
}
_RATTLE = {"displacement": Usual(1e-3, 0.5, " Å", "usual are 0.01 to 0.2 Å")}
_CLUSTER = {
    "memory_per_job": Usual(50, 1e7, " MB", "usual are 500 to 100000 MB (1 GB is 1000)"),
    "disk_per_job": Usual(50, 1e9, " MB", "usual are 1000 and more (1 GB is 1000)"),
}
_ARCHITECTURE = {
    "r_max": Usual(2.5, 12, " Å", "usual are 4 to 7 Å"),
    "num_channels": Usual(1, 512, "", "usual are 16 to 256"),
    "max_ell": Usual(0, 5, "", "usual are 2 to 3"),
    "correlation": Usual(1, 4, "", "usual are 2 to 3"),
    "num_interactions": Usual(1, 5, "", "usual is 2"),
}
_TRAINING = {
    "lr": Usual(1e-5, 0.1, "", "usual are 0.001 to 0.01"),
    "ema_decay": Usual(0.8, 1, "", "usual are 0.99 to 0.9999"),
    "weight_decay": Usual(0, 0.01, "", "usual are 0 to 1e-5"),
}

_HYDROGEN_HARTREE = (-1.1, 0.0)
"""Where a hydrogen atom's energy lies in Hartree (-0.5) or Rydberg (-1); in eV it is below -10."""

_CLOSE = 0.05
"""How near an energy is to what it looks like, relative to it: of lithium 4 % are missing."""

_RELATIVITY = 0.2
"""What relativity adds to an atom's energy, in units of (Z/137)² of it: 2 % in silver, 7 % in gold
(Dirac-Fock: -5314 and -19035 Hartree)."""

_LOWEST_C_X = -0.75


def project_doubts(project: ProjectSettings, model: ModelSettings) -> Iterator[Doubt]:
    """Yield each doubtful number of `aimsPAX.yaml`, and cells that move without stress."""
    by_index = project.MD if isinstance(project.MD, dict) else {None: project.MD}
    for index, md in by_index.items():
        yield from _of_dynamics("MD" if index is None else f"MD.{index}", md, model.stress)
    for name in ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"):
        phase = getattr(project, name)
        if phase is not None:
            yield from _of(name, phase, _PHASES)
            yield from _of_rattling(f"{name}.rattle", phase.rattle)
    for place, engine in _engines(project):
        yield from _of(place, engine, engine.usual)
    yield from _of("GATE", project.GATE, _GATE)
    if project.CLUSTER is not None:
        yield from _of("CLUSTER", project.CLUSTER, _CLUSTER)
    yield from _between_keys(project, model)


def model_doubts(model: ModelSettings) -> Iterator[Doubt]:
    """Yield each doubtful number of `mace.yaml`."""
    yield from _of("ARCHITECTURE", model.ARCHITECTURE, _ARCHITECTURE)
    yield from _of("TRAINING", model.TRAINING, _TRAINING)
    if model.TRAINING.forces_weight == 0:
        yield "TRAINING.forces_weight", "is 0: the models drive MD by forces that they do not learn"
    yield from _of_atoms(getattr(model.ARCHITECTURE, "atomic_energies", None) or {})


def _of(section: str, given: object, table: Mapping[str, Usual]) -> Iterator[Doubt]:
    """Yield what is unusual in a section; families and ensembles may not have all keys."""
    for key, usual in table.items():
        value = getattr(given, key, None)
        if (doubt := usual.doubt(*entries(value))) is not None:
            yield f"{section}.{key}", doubt


def _engines(project: ProjectSettings) -> Iterator[tuple[str, EngineSettings]]:
    yield "REFERENCE", project.REFERENCE
    idg = project.INITIAL_DATASET_GENERATION
    if idg is not None and idg.initial_sampling == "engine" and idg.sampling_engine is not None:
        yield "INITIAL_DATASET_GENERATION.sampling_engine", idg.sampling_engine


def _of_dynamics(place: str, md: MD, stress: bool) -> Iterator[Doubt]:
    yield from _of(place, md, {k: v for k, v in _MD.items() if k not in md.idle})
    if md.ensemble.moves_cell and not stress:
        yield (
            f"{place}.stat_ensemble",
            "moves the cell by the stress of models that do not train on stress; usual is "
            "compute_stress: True with loss: stress",
        )


def _of_rattling(place: str, rattle: Any) -> Iterator[Doubt]:
    by_index = rattle if isinstance(rattle, dict) else {None: rattle}
    for index, one in by_index.items():
        if one is not None:
            yield from _of(place if index is None else f"{place}.{index}", one, _RATTLE)


def _between_keys(project: ProjectSettings, model: ModelSettings) -> Iterator[Doubt]:
    """Yield numbers that others make pointless."""
    al, batch = project.ACTIVE_LEARNING, model.TRAINING.batch_size
    if al is None:
        return
    limits = {rule.key.name: rule.limit(al) for rule in rules_of("active")}
    steps, points = limits["max_MD_steps"], limits["max_train_set_size"]
    if al.c_x < _LOWEST_C_X:
        yield (
            "ACTIVE_LEARNING.c_x",
            f"is {al.c_x:g}: the threshold is {1 + al.c_x:.3g} of the mean uncertainty, so that "
            "nearly every check asks for a label; usual are -0.3 to 0.5",
        )
    if steps < al.skip_step_mlff:
        yield (
            "ACTIVE_LEARNING.max_MD_steps",
            f"is {steps:g}, and skip_step_mlff {al.skip_step_mlff}: trajectories end "
            "before their uncertainty is looked at; usual are some thousand steps and more",
        )
    if al.uncert_not_crossed_limit < al.skip_step_mlff:
        yield (
            "ACTIVE_LEARNING.uncert_not_crossed_limit",
            f"is {al.uncert_not_crossed_limit:g}, and skip_step_mlff {al.skip_step_mlff}: every "
            "check takes a point, however sure the models are; usual are some thousand steps",
        )
    if batch > points:
        yield (
            "ACTIVE_LEARNING.max_train_set_size",
            f"is {points:g}, and TRAINING.batch_size {batch}: sets that are smaller "
            "than a batch are trained on in batches of one structure",
        )


def _of_atoms(energies: Mapping[int, float]) -> Iterator[Doubt]:
    """Yield what is odd of the energies (eV) of free atoms, by atomic number."""
    key = "ARCHITECTURE.atomic_energies"
    said = {number: f"{chemical_symbols[number]} {energies[number]:g} eV" for number in energies}
    above = [said[number] for number, energy in energies.items() if energy > 0]
    if above:
        yield key, f"has {and_list(above)}; the energy of a free atom is usually below 0"
    for number, energy in energies.items():
        if number == 1 and _HYDROGEN_HARTREE[0] < energy < _HYDROGEN_HARTREE[1]:
            yield key, f"has {said[1]}; in eV about -13.6 is usual, in Hartree -0.5"
        elif number > 2 and _looks_like_hartree(number, energy):
            yield (
                key,
                f"has {said[number]}, which looks like Hartree or Rydberg; in eV, with all "
                f"electrons, about {_all_electron(number):.0f} is usual",
            )


def _looks_like_hartree(number: int, energy: float) -> bool:
    most = 1 + _CLOSE + _RELATIVITY * (number / 137) ** 2
    shares = (energy * unit / _all_electron(number) for unit in (Hartree, Rydberg))
    return any(1 - _CLOSE < share < most for share in shares)


def _all_electron(number: int) -> float:
    """Return the energy (eV) of a neutral atom with all electrons, without relativity.

    The statistical model with Scott's and Schwinger's corrections: B.-G. Englert and J. Schwinger,
    Phys. Rev. A 32, 26 (1985), equation 1.2. It is off by 4 % for Li, 3 % for Be, 1.4 % for B and
    less than a percent from there on.
    """
    z = float(number)
    return Hartree * (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3))
