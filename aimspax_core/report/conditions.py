"""The dynamics of a campaign in sentences: which trajectory has which temperature and pressure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase import Atoms, units

from aimspax_core.sampling.dynamics import describe, target_pressure
from aimspax_core.settings.md import MD, Dynamics
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
        if section.several and settings.has_initial and (by_index or not index):
            whose = f" of {name}" if by_index else ""
            yield f"sampling steps{whose}: {_steps(section)}, and again"


def condition_text(md: Dynamics) -> str:
    """Return temperature and pressure of a trajectory, such as `300 K, 1.013 bar`."""
    pressure = target_pressure(md)
    at = "" if md.ensemble.holds_temperature else "begun at "
    more = "" if pressure is None else f", {pressure / units.bar:.4g} bar"
    return f"{at}{md.temperature:g} K{more}"


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
