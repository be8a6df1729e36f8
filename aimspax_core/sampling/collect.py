"""Sampling of the initial dataset: one MD trajectory per geometry, a point every so many steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError

from aimspax_core.errors import ExplodedError, StructureError
from aimspax_core.sampling.dynamics import MDState, capture, random_stream, resume, start
from aimspax_core.settings.project import MD

MAX_FRESH_STARTS = 3
"""How often a sampling trajectory may explode and begin again within one call."""

SAMPLING_STREAM = 0
"""First number of the random streams of sampling trajectories; exploring ones have 1."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collected:
    """What a sampling trajectory gave.

    Attributes:
        state: Where it goes on; its step counts those of exploded beginnings too.
        structures: The points, in order; no momenta.
        refused: Structures that `check_structure` kept back.
    """

    state: MDState
    structures: tuple[Atoms, ...]
    refused: int


def begin(atoms: Atoms, md: MD, geometry: int, attempt: int = 0) -> MDState:
    """Return the start of a geometry's sampling trajectory, with its own random stream."""
    return start(atoms, md, random_stream(md.MD_seed, SAMPLING_STREAM, geometry, attempt))


def collect(
    geometry: int,
    atoms: Atoms,
    state: MDState,
    md: MD,
    calculator: Calculator,
    points: int,
    skip_step: int,
    check_structure: Callable[[Atoms], None],
) -> Collected:
    """Run MD and take a structure every `skip_step` steps.

    A trajectory that explodes begins again from its geometry with new noise; after a few times
    what there is has to do.

    Args:
        geometry: Index of the geometry; it chooses the random streams of new beginnings.
        atoms: The start geometry.
        state: Where the trajectory is.
        md: MD settings.
        calculator: Drives the MD.
        points: How many structures to take.
        skip_step: MD steps from one to the next.
        check_structure: Raises `StructureError` for a structure that no engine may see.
    """
    taken: list[Atoms] = []
    refused = restarts = 0
    dynamics, rng = resume(state, md, calculator)
    step = state.step
    while len(taken) + refused < points:
        step += skip_step
        try:
            for _ in dynamics.irun(skip_step):
                _finite(dynamics.atoms)
            check_structure(dynamics.atoms)
        except (CalculatorError, ExplodedError, StructureError) as error:
            refused += 1
            log.warning("sampling of geometry %d, step %d: %s", geometry, step, error)
            fresh = begin(atoms, md, geometry, attempt=step)
            dynamics, rng = resume(fresh, md, calculator)
            restarts += 1
            if restarts > MAX_FRESH_STARTS:
                break
            continue
        taken.append(capture(dynamics, rng, step).structure)
    for structure in taken:
        del structure.arrays["momenta"]
    return Collected(capture(dynamics, rng, step), tuple(taken), refused)


def _finite(atoms: Atoms) -> None:
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.get_momenta()).all():
        raise ExplodedError("a position or momentum is not a finite number")
