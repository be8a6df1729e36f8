"""Rattled copies of a geometry: displaced atoms and strained cells, without any model.

Notes:
    Each free coordinate of an atom is displaced by a normal deviate of standard deviation
    `displacement` (Å). A cell h that is periodic in three directions becomes `h (1 + ε)`, and
    positions r become `r (1 + ε)`, with a symmetric ε (no rotation) whose six components are normal
    deviates of standard deviation `strain`. Where atoms are held, the cell is not strained: it
    would move them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from ase import Atoms

from aimspax_core.errors import StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.sampling.collect import Collected
from aimspax_core.sampling.dynamics import MDState, generator, rng_state
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.samples import Rattle
from aimspax_core.structures import decode, encode

TRIES = 50
"""How often a copy is drawn anew that the gate refuses."""


def rattled(
    atoms: Atoms,
    how: Rattle,
    number: int,
    rng: np.random.Generator,
    held: HeldAtoms,
) -> Atoms:
    """Return a copy of N atoms with other positions and, perhaps, another cell.

    Args:
        atoms: The geometry.
        how: Its amplitudes.
        number: Which copy it is, from 0.
        rng: Draws 9 deviates if the cell is strained, 6 of which are used, and 3N.
        held: What does not move.
    """
    copy = decode(encode(atoms))
    if how.strain and copy.pbc.all() and not held:
        upper = np.triu(rng.normal(0.0, how.strain, (3, 3)))
        deformed = np.eye(3) + upper + np.triu(upper, 1).T
        copy.set_cell(copy.cell.array @ deformed)
        copy.set_positions(copy.positions @ deformed)
    copy.set_constraint(held.constraints())
    moves = rng.normal(0.0, how.displacement_of(number), (len(copy), 3))
    copy.set_positions(copy.positions + moves)  # ASE takes out what is held
    copy.set_constraint()
    return copy


def passing(
    draw: Callable[[], Atoms], gate: Gate, pass_gate: Callable[[Atoms, Gate], None]
) -> Atoms:
    """Return the first copy that passes the gate.

    Args:
        draw: Returns one after another.
        gate: What structures must hold.
        pass_gate: Raises `StructureError` for the last one tried, if the gate refuses it.

    Raises:
        StructureError: All of `TRIES` were refused.
    """
    for _ in range(TRIES - 1):
        copy = draw()
        try:
            check_structure(copy, gate)
        except StructureError:
            continue
        return copy
    last = draw()
    pass_gate(last, gate)
    return last


def collect_rattled(
    state: MDState,
    atoms: Atoms,
    how: Rattle,
    gate: Gate,
    points: int,
    pass_gate: Callable[[Atoms, Gate], None] = check_structure,
) -> Collected:
    """Return rattled copies of a geometry in place of structures from MD.

    Args:
        state: Whose random stream draws them; its step counts them. Its atoms stay where they are,
            so that MD may go on from them if the setting is changed.
        atoms: The geometry.
        how: Its amplitudes.
        gate: What structures must hold.
        points: How many copies.
        pass_gate: Raises `StructureError` for a structure that the gate refuses; what it is asked
            of last, after `TRIES` copies, counts as refused.
    """
    rng, taken, refused = generator(state), [], 0
    for number in range(state.step, state.step + points):

        def draw(number: int = number) -> Atoms:
            return rattled(atoms, how, number, rng, state.held)

        try:
            taken.append(passing(draw, gate, pass_gate))
        except StructureError:
            refused += 1
    end = replace(state, step=state.step + points, rng=rng_state(rng))
    return Collected(end, tuple(taken), refused)
