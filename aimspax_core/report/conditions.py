"""The dynamics of a campaign in sentences: which trajectory has which temperature and pressure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase import Atoms, units

from aimspax_core.sampling.dynamics import describe, target_pressure
from aimspax_core.settings.md import MD, Dynamics
from aimspax_core.settings.samples import Rattle
from aimspax_core.settings.series import entries
from aimspax_core.settings.settings import Settings

_MOST = 6
"""Most trajectories, or conditions, that are named one by one."""


def dynamics(settings: Settings, geometries: Sequence[Atoms]) -> Iterator[str]:
    """Yield a line on the dynamics, or one for each geometry if they have their own settings.

    Where there are several temperatures or pressures, lines follow on who has which.
    """
    by_index = isinstance(settings.project.MD, dict)
    if not by_index:
        yield f"dynamics: {describe(settings.md_section(0))}"
    for index, atoms in enumerate(geometries):
        section, name = settings.md_section(index), f"geometry {index}"
        if by_index:
            yield f"dynamics of {name} ({atoms.get_chemical_formula()}): {describe(section)}"
        if section.several and settings.project.ACTIVE_LEARNING is not None:
            yield f"trajectories of {name}: {_trajectories(settings, index, len(geometries))}"
        steps = settings.has_initial and settings.idg.initial_sampling != "rattle"
        if section.several and steps and (by_index or not index):
            whose = f" of {name}" if by_index else ""
            yield f"sampling steps{whose}: {_steps(section)}, and again"


def condition_text(md: Dynamics) -> str:
    """Return temperature and pressure of a trajectory, such as `300 K, 1.013 bar`."""
    pressure = target_pressure(md)
    at = "" if md.ensemble.holds_temperature else "begun at "
    more = "" if pressure is None else f", {pressure / units.bar:.4g} bar"
    return f"{at}{md.temperature:g} K{more}"


def sampled_copies(settings: Settings, geometries: Sequence[Atoms]) -> Iterator[str]:
    """Yield how each geometry is rattled for the initial dataset, if it is."""
    if settings.has_initial:
        for index, atoms in enumerate(geometries):
            how = settings.sampled_by_rattling(index)
            if how is not None:
                yield f"copies of geometry {index}: {_rattle(settings, index, atoms, how)}"


def first_copies(settings: Settings, geometries: Sequence[Atoms]) -> Iterator[str]:
    """Yield with what copies of each geometry trajectories begin, if they do."""
    if settings.project.ACTIVE_LEARNING is not None:
        for index, atoms in enumerate(geometries):
            how = settings.al.rattle_of(index)
            if how is not None:
                what = f"trajectories of geometry {index} begin with copies of their own"
                yield f"{what}: {_rattle(settings, index, atoms, how)}"


def restarts(settings: Settings, geometries: Sequence[Atoms]) -> Iterator[str]:
    """Yield how often trajectories of each geometry begin anew from labels, if they do."""
    idg, al, number = settings.idg, settings.al, len(geometries)
    walks = settings.has_initial and idg.initial_sampling != "rattle"
    initial = idg.restart_shares(number) if walks else ()
    active = al.restart_shares(number) if settings.project.ACTIVE_LEARNING is not None else ()
    for index in range(number):
        said = []
        if initial and initial[index]:
            said.append(f"{initial[index]:.0%} of sampling steps")
        if active and active[index]:
            said.append(f"after {active[index]:.0%} of labels in active learning")
        if said:
            yield f"new beginnings from labelled points of geometry {index}: {', '.join(said)}"


def _rattle(settings: Settings, index: int, atoms: Atoms, how: Rattle) -> str:
    sizes = _shortened([f"{size:g}" for size in entries(how.displacement)], " / ")
    held = (settings.held or {}).get(index)
    strained = how.strain and atoms.pbc.all() and not held
    cell = f", cell strained by {how.strain:.2g}" if strained else ""
    which = "atoms that can move" if held else "atoms"
    return f"{which} displaced by {sizes} Å{cell} (standard deviations)"


def _trajectories(settings: Settings, geometry: int, geometries: int) -> str:
    """Return which of a geometry's trajectories have which conditions."""
    found: dict[str, list[int]] = {}
    indices = range(geometry, max(settings.al.num_trajectories, geometries), geometries)
    for number, index in enumerate(indices):
        found.setdefault(condition_text(settings.md(geometry, number)), []).append(index)
    return _shortened([f"{_named(found[text])} at {text}" for text in found], "; ")


def _steps(section: MD) -> str:
    """Return what the first sampling steps have, until it is the same again."""
    number = section.period
    texts = [f"{step + 1} at {condition_text(section.at(step))}" for step in range(number)]
    return _shortened(texts, "; ")


def _named(indices: Sequence[int]) -> str:
    return _shortened([str(index) for index in indices], ", ")


def _shortened(texts: Sequence[str], between: str) -> str:
    if len(texts) <= _MOST:
        return between.join(texts)
    return between.join([*texts[: _MOST - 1], f"… ({len(texts)} in all)"])
