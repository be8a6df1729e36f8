"""Sampling of the initial dataset: one MD trajectory per geometry, a point every so many steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError
from ase.md.md import MolecularDynamics

from aimspax_core.errors import ExplodedError, StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.random_streams import HEATING_STREAM, LABELLED_STREAM, SAMPLING_STREAM
from aimspax_core.sampling.dynamics import (
    MDState,
    begin_anew,
    capture,
    random_stream,
    resume,
    start,
)
from aimspax_core.sampling.lockstep import volume_guard
from aimspax_core.sampling.snapshots import Snapshot
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms
from aimspax_core.settings.md import Dynamics
from aimspax_core.structures import decode, encode

MAX_FRESH_STARTS = 3
"""How often a sampling trajectory may begin again within a sampling step, over all its parts."""

MAX_SHIFT = 100.0
"""How far (Å) an atom of a molecule may go from where it was in the geometry.

Searches for neighbours that grow with the distance take seconds there, and do not end far beyond.
"""

MAX_PERIODIC_SHIFT = 1e4
"""The same (Å) where there is periodicity: atoms that diffuse are not put back into the cell."""

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class Collected:
    """What a sampling trajectory gave.

    Attributes:
        state: Where it goes on; its step counts those of exploded beginnings too.
        structures: The points, in order; no momenta.
        refused: Stretches without a point: exploded, or refused by the gate.
        snapshots: Its snapshots, in order; also those before an explosion.
        complete: Whether there is nothing more to take; False: it came back for want of time.
    """

    state: MDState
    structures: tuple[Atoms, ...]
    refused: int
    snapshots: tuple[Snapshot, ...] = ()
    complete: bool = True


def begin(
    atoms: Atoms,
    md: Dynamics,
    geometry: int,
    attempt: int = 0,
    restarts: int = 0,
    held: HeldAtoms = NOTHING_HELD,
) -> MDState:
    """Return the start of a geometry's sampling trajectory, with its own random stream.

    Args:
        atoms: The geometry.
        md: Its MD settings.
        geometry: Its index.
        attempt: Step at which the trajectory exploded and begins again, else 0.
        restarts: How often the trajectory began again because a state file was lost.
        held: Atoms of it that do not move, or in some directions only.
    """
    lost = (restarts,) if restarts else ()
    stream = random_stream(md.MD_seed, SAMPLING_STREAM, geometry, attempt, *lost)
    return start(atoms, md, stream, held)


def heated(state: MDState, md: Dynamics, geometry: int) -> MDState:
    """Return the same place with velocities for another temperature, as a sampling step begins.

    A thermostat alone may need longer than the step to reach it, and some dynamics have none.

    Args:
        state: Where the sampling trajectory is.
        md: Its MD settings from here on.
        geometry: Index of the geometry.
    """
    stream = random_stream(md.MD_seed, HEATING_STREAM, geometry, state.step)
    return begin_anew(state, stream, md)


def begun_from(atoms: Atoms, state: MDState, md: Dynamics, geometry: int) -> MDState:
    """Return a start from a labelled structure, as a sampling step begins.

    Args:
        atoms: The structure.
        state: Where the sampling trajectory is: its step goes on, and what it holds.
        md: Its MD settings.
        geometry: Index of the geometry.
    """
    stream = random_stream(md.MD_seed, LABELLED_STREAM, geometry, state.step)
    return replace(start(atoms, md, stream, state.held), step=state.step)


def collect(
    state: MDState,
    calculator: Calculator,
    *,
    geometry: int,
    atoms: Atoms,
    md: Dynamics,
    gate: Gate,
    points: int,
    skip_step: int,
    snapshot_every: int | None = None,
    pass_gate: Callable[[Atoms, Gate], None] = check_structure,
    time_is_up: Callable[[], bool] = lambda: False,
    refused_before: int = 0,
) -> Collected:
    """Run MD and take a structure every `skip_step` steps.

    A trajectory that explodes, or whose structure the gate refuses, begins again from its geometry
    with new noise, and holds what the state holds. After `MAX_FRESH_STARTS` of them the step ends
    with the structures that it has.

    Args:
        state: Where the trajectory is.
        calculator: Drives the MD; it gives stress if the dynamics needs it.
        geometry: Index of the geometry; it chooses the random streams of new beginnings.
        atoms: The start geometry.
        md: The geometry's MD settings.
        gate: What structures must hold; a force above its `max_force` (eV/Å) is an explosion.
        points: How many structures to take.
        skip_step: MD steps from one to the next.
        snapshot_every: MD steps of the trajectory's life from one snapshot to the next; None: no
            snapshots.
        pass_gate: Raises `StructureError` for a structure that the gate refuses.
        time_is_up: Returns whether to come back with what there is; asked after each stretch.
        refused_before: Stretches without a point in earlier parts of the same sampling step: each
            was followed by a new beginning.
    """
    taken: list[Atoms] = []
    snapshots: list[Snapshot] = []
    refused = 0
    dynamics, rng = resume(state, md, calculator)
    guards = (_finite, _force_guard(gate.max_force), volume_guard(atoms), _shift_guard(atoms))
    step, complete = state.step, False
    while not complete:
        began, step = step, step + skip_step
        try:
            for at in _advance(dynamics, guards, range(began, step)):
                snapshots += _snapshots(dynamics.atoms, at, snapshot_every)
            pass_gate(dynamics.atoms, gate)
            taken.append(capture(dynamics, rng, step).structure)
        # An integrator whose barostat is no longer finite fails in the algebra of its cell.
        except (CalculatorError, ExplodedError, StructureError, np.linalg.LinAlgError) as error:
            refused += 1
            log.warning("sampling of geometry %d, step %d: %s", geometry, step, error)
            fresh = begin(atoms, md, geometry, attempt=step, held=state.held)
            dynamics, rng = resume(fresh, md, calculator)
        gives_up = refused_before + refused > MAX_FRESH_STARTS
        complete = len(taken) + refused >= points or gives_up
        if time_is_up():
            break
    for structure in taken:
        del structure.arrays["momenta"]
    end = capture(dynamics, rng, step, state.held)
    return Collected(end, tuple(taken), refused, tuple(snapshots), complete)


def _advance(
    dynamics: MolecularDynamics, guards: Sequence[Callable[[Atoms], None]], steps: range
) -> Iterator[int]:
    """Run MD over some steps of the trajectory's life; yield how many it has made after each.

    Raises:
        ExplodedError: A guard raised it.
    """
    before = dynamics.nsteps
    for _ in dynamics.irun(len(steps)):
        for guard in guards:
            guard(dynamics.atoms)
        if dynamics.nsteps > before:  # ASE yields once before the first step
            yield steps.start + dynamics.nsteps - before


def _snapshots(atoms: Atoms, step: int, every: int | None) -> list[Snapshot]:
    """Return a snapshot if it is time for one; energy and forces are at hand."""
    if every is None or step % every:
        return []
    moving = decode(encode(atoms))
    moving.set_momenta(atoms.get_momenta())
    energy = float(atoms.get_potential_energy())
    return [Snapshot(moving, step, energy, np.array(atoms.get_forces(apply_constraint=False)))]


def _finite(atoms: Atoms) -> None:
    values = (atoms.positions, atoms.get_momenta(), atoms.cell.array)
    if not all(np.isfinite(value).all() for value in values):
        raise ExplodedError("a position, momentum or cell vector is not a finite number")


def _force_guard(max_force: float) -> Callable[[Atoms], None]:
    """Return a function that raises ExplodedError if a force (eV/Å) is too large or not finite.

    The forces of a step are at hand after it, so that this costs no evaluation.
    """

    def check(atoms: Atoms) -> None:
        largest = np.linalg.norm(atoms.get_forces(apply_constraint=False), axis=1).max()
        # Written so that NaN fails it.
        if not largest <= max_force:
            raise ExplodedError(f"a force of {largest:.4g} eV/Å (max_force: {max_force:g})")

    return check


def _shift_guard(geometry: Atoms) -> Callable[[Atoms], None]:
    """Return a function that raises ExplodedError once an atom is too far from its beginning."""
    limit = MAX_PERIODIC_SHIFT if geometry.pbc.any() else MAX_SHIFT
    first = geometry.positions.copy()

    def check(atoms: Atoms) -> None:
        farthest = np.linalg.norm(atoms.positions - first, axis=1).max()
        if farthest > limit:
            raise ExplodedError(
                f"an atom is {farthest:.4g} Å from where it began; {limit:g} Å is allowed"
            )

    return check
