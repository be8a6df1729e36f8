"""Rattled copies: how far atoms and cells go, what stays, and what the gate lets through."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from aimspax_core.errors import StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.sampling.collect import begin
from aimspax_core.sampling.rattling import TRIES, collect_rattled, rattled
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms
from aimspax_core.settings.md import MD
from aimspax_core.settings.samples import Rattle

MD_300 = MD(stat_ensemble="nvt").at(0)


def copies(atoms: Atoms, how: Rattle, number: int = 400, held: HeldAtoms = NOTHING_HELD) -> list:
    rng = np.random.default_rng(1)
    return [rattled(atoms, how, place, rng, held) for place in range(number)]


def test_the_displacement_is_the_standard_deviation_of_each_coordinate() -> None:
    water = molecule("H2O")
    moves = [copy.positions - water.positions for copy in copies(water, Rattle(displacement=0.2))]
    np.testing.assert_allclose(np.std(moves, axis=0), 0.2, rtol=0.15)
    np.testing.assert_allclose(np.mean(moves, axis=0), 0.0, atol=0.04)


def test_copies_take_displacements_in_turn() -> None:
    water, how = molecule("H2O"), Rattle(displacement=[0.01, 0.3])
    moves = [copy.positions - water.positions for copy in copies(water, how)]
    assert np.std(moves[::2]) == pytest.approx(0.01, rel=0.1)
    assert np.std(moves[1::2]) == pytest.approx(0.3, rel=0.1)


def test_a_crystal_is_strained_with_its_atoms_and_not_turned() -> None:
    copper = bulk("Cu", cubic=True)
    found = copies(copper, Rattle(displacement=1e-9, strain=0.03))
    strains = np.array([np.linalg.solve(copper.cell.array, c.cell.array) for c in found])
    strains -= np.eye(3)
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(strains.std(axis=0), 0.03, rtol=0.2)
    for copy in found[:5]:
        places = [one.get_scaled_positions(wrap=False) for one in (copy, copper)]
        np.testing.assert_allclose(*places, atol=1e-8)


@pytest.mark.parametrize("atoms", [molecule("H2O", vacuum=3), fcc111("Al", (1, 1, 2), vacuum=5)])
def test_what_is_not_periodic_in_three_directions_keeps_its_cell(atoms: Atoms) -> None:
    for copy in copies(atoms, Rattle(), 5):
        assert (copy.cell.array == atoms.cell.array).all()
        assert (copy.pbc == atoms.pbc).all()


def test_held_atoms_do_not_move_to_the_last_bit_and_their_cell_neither() -> None:
    copper = bulk("Cu", cubic=True)
    held = HeldAtoms(fixed=(0,), planes=(((0.0, 0.0, 1.0), (1,)),), lines=(((1.0, 0, 0), (2,)),))
    for copy in copies(copper, Rattle(displacement=0.1, strain=0.05), 20, held):
        moved = copy.positions != copper.positions
        assert not moved[0].any()
        assert list(moved[1]) == [True, True, False]
        assert list(moved[2]) == [True, False, False]
        assert moved[3].all()
        assert (copy.cell.array == copper.cell.array).all()
        assert not copy.constraints


def test_however_the_copies_are_cut_into_tasks_they_are_the_same() -> None:
    copper, how = bulk("Cu", cubic=True), Rattle(displacement=[0.05, 0.1, 0.2])
    first = begin(copper, MD_300, 3)
    whole = collect_rattled(first, copper, how, Gate(), 5)
    one = collect_rattled(first, copper, how, Gate(), 2)
    other = collect_rattled(one.state, copper, how, Gate(), 3)
    parts = (*one.structures, *other.structures)
    assert [atoms.positions.tolist() for atoms in parts] == [
        atoms.positions.tolist() for atoms in whole.structures
    ]
    assert (other.state.step, other.state.rng) == (whole.state.step, whole.state.rng)
    assert (whole.state.structure.get_momenta() == first.structure.get_momenta()).all()


def test_copies_that_the_gate_refuses_are_drawn_anew() -> None:
    water, how, gate = molecule("H2O"), Rattle(displacement=0.5), Gate(min_distance=0.6)
    plain = copies(water, how, 20)
    assert any(refused(copy, gate) for copy in plain), "else there is nothing to see"
    found = collect_rattled(begin(water, MD_300, 0), water, how, gate, 20)
    assert (len(found.structures), found.refused) == (20, 0)
    assert not any(refused(copy, gate) for copy in found.structures)


def refused(atoms: Atoms, gate: Gate) -> bool:
    try:
        check_structure(atoms, gate)
    except StructureError:
        return True
    return False


def test_where_the_gate_refuses_all_the_step_ends_without_a_point() -> None:
    asked: list[Atoms] = []

    def look(atoms: Atoms, gate: Gate) -> None:
        asked.append(atoms)
        check_structure(atoms, gate)

    water, gate = molecule("H2O"), Gate(min_distance=0.999)
    found = collect_rattled(
        begin(water, MD_300, 0), water, Rattle(displacement=1e-6), gate, 3, look
    )
    assert (found.structures, found.refused, len(asked)) == ((), 3, 3)
    assert TRIES > 1
