"""What a run would do, told before it starts."""

from __future__ import annotations

import math

from ase import Atoms

from aimspax_core.campaign.initial import split_share
from aimspax_core.settings.load import Settings

_SHOWN_STEPS = 5


def split_table(settings: Settings, geometries: int) -> list[tuple[int, int, int]]:
    """Return (step, training, validation) set sizes of one member after the first sampling steps.

    Args:
        settings: The settings in force.
        geometries: How many there are.
    """
    idg = settings.idg
    rows, training, validation = [], 0, 0
    for step in range(1, _SHOWN_STEPS + 1):
        new = idg.n_points_per_sampling_step_idg * geometries
        to_validation = split_share(training + validation + new, validation, idg.valid_ratio)
        validation += to_validation
        training += new - to_validation
        rows.append((step, training, validation))
    return rows


def plan(settings: Settings, geometries: list[Atoms], tags: tuple[str, ...]) -> list[str]:
    """Say in sentences what would run."""
    idg, al, md = settings.idg, settings.al, settings.md
    formulas = ", ".join(atoms.get_chemical_formula() for atoms in geometries)
    labels = idg.n_points_per_sampling_step_idg * len(tags) * len(geometries)
    return [
        f"geometries: {len(geometries)} ({formulas})",
        f"members: {', '.join(tags)} on {settings.model.MISC.device}, "
        f"{settings.model.GENERAL.default_dtype}",
        f"reference: {_engine(settings.reference)}, "
        f"{settings.cluster.max_workers} labels at a time",
        f"dynamics: {md.stat_ensemble.upper()} {md.thermostat}, {md.temperature:g} K, "
        f"{md.timestep:g} fs",
        f"initial dataset: sampled by {_sampler(settings)}, {labels} labels a step, "
        f"{idg.intermediate_epochs_idg} epochs after each, until {_initial_end(settings)}",
        f"active learning: {max(al.num_trajectories, len(geometries))} trajectories, a check every "
        f"{al.skip_step_mlff} steps, until {_active_end(settings)}",
        f"convergence: {_convergence(settings)}",
    ]


def _engine(engine: object) -> str:
    name = getattr(engine, "engine", "")
    return f"{name} {getattr(engine, 'method', '') or getattr(engine, 'model_path', '')}".strip()


def _sampler(settings: Settings) -> str:
    idg = settings.idg
    if idg.initial_sampling == "aimd":
        return "the reference itself"
    if idg.initial_sampling == "engine":
        return _engine(idg.sampling_engine)
    return f"the MACE-MP foundation model {idg.foundation.mace_model!r}"


def _initial_end(settings: Settings) -> str:
    idg = settings.idg
    ends = []
    if idg.desired_acc:
        accuracy = 1000 * idg.desired_acc * idg.desired_acc_scale_idg
        ends.append(f"the validation force MAE is {accuracy:g} meV/Å")
    if idg.max_initial_epochs < math.inf:
        ends.append(f"{idg.max_initial_epochs:g} epochs")
    if idg.max_initial_set_size < math.inf:
        ends.append(f"{idg.max_initial_set_size:g} points")
    return " or ".join(ends)


def _active_end(settings: Settings) -> str:
    al = settings.al
    ends = []
    if al.desired_acc:
        ends.append(f"the validation force MAE is below {1000 * al.desired_acc:g} meV/Å")
    if al.max_train_set_size < math.inf:
        ends.append(f"a training set has {al.max_train_set_size:g} points")
    if al.max_MD_steps < math.inf:
        ends.append(f"every trajectory has made {al.max_MD_steps:g} steps")
    return " or ".join(ends) or "you stop it"


def _convergence(settings: Settings) -> str:
    al = settings.al
    if not al.converge_al:
        return "none"
    who = "the best member" if al.converge_best else "all members"
    return (
        f"{who}, at most {al.max_convergence_epochs} epochs, "
        f"or {al.convergence_patience} without progress"
    )
