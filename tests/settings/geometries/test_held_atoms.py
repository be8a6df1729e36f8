"""What constraints of files hold: one subspace an atom, however it was said."""

import io
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixScaled,
    Hookean,
)

from aimspax_core.settings.geometries.files import read_file
from aimspax_core.settings.geometries.held_atoms import (
    HOLDING,
    NOTHING_HELD,
    HeldAtoms,
    not_holding,
)

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
DIAGONAL = (1.0, 1.0, 0.0)
UNIT_DIAGONAL = (round(0.5**0.5, 12), round(0.5**0.5, 12), 0.0)
MONOCLINIC = [[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [1.0, 0.0, 5.0]]


def atoms_with(*constraints, cell=None):
    atoms = Atoms("H4", np.arange(12.0).reshape(4, 3), cell=cell, pbc=cell is not None)
    atoms.set_constraint(list(constraints))
    return atoms


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ([FixAtoms([2, 0])], HeldAtoms(fixed=(0, 2))),
        ([FixAtoms([-1])], HeldAtoms(fixed=(3,))),
        ([FixCartesian([0, 1], (True, True, True))], HeldAtoms(fixed=(0, 1))),
        ([FixCartesian(1, (False, False, True))], HeldAtoms(planes=((Z, (1,)),))),
        ([FixCartesian(1, (True, False, True))], HeldAtoms(lines=((Y, (1,)),))),
        ([FixCartesian(1, (False, False, False))], NOTHING_HELD),
        ([FixedPlane([0, 2], (0, 0, -3))], HeldAtoms(planes=((Z, (0, 2)),))),
        ([FixedPlane(0, DIAGONAL)], HeldAtoms(planes=((UNIT_DIAGONAL, (0,)),))),
        ([FixedLine(0, DIAGONAL)], HeldAtoms(lines=((UNIT_DIAGONAL, (0,)),))),
        # two planes leave their common line, a line that leaves a plane leaves a point
        ([FixedPlane(0, X), FixedPlane(0, DIAGONAL)], HeldAtoms(lines=((Z, (0,)),))),
        ([FixedPlane(0, X), FixedLine(0, DIAGONAL)], HeldAtoms(fixed=(0,))),
        ([FixedPlane(0, X), FixedLine(0, Y)], HeldAtoms(lines=((Y, (0,)),))),
        ([FixAtoms([0]), FixCartesian([0, 1], (True, False, False))],
         HeldAtoms(fixed=(0,), planes=((X, (1,)),))),
        ([FixCom()], NOTHING_HELD),
    ],
)  # fmt: skip
def test_constraints_become_what_each_atom_may_still_do(constraints, expected):
    assert HeldAtoms.of(atoms_with(*constraints)) == expected


@pytest.mark.parametrize(
    ("mask", "vectors"),
    [
        ((True, True, False), MONOCLINIC[2:]),
        ((False, True, True), MONOCLINIC[:1]),
        ((False, True, False), [MONOCLINIC[0], MONOCLINIC[2]]),
        ((False, False, True), MONOCLINIC[:2]),
    ],
)
def test_selective_dynamics_leaves_the_vectors_of_a_skewed_cell(mask, vectors):
    """A shift along a vector whose coordinate is free passes; the held coordinates stay."""
    atoms = atoms_with(FixScaled(1, mask), cell=MONOCLINIC)
    held = HeldAtoms.of(atoms)
    assert held.removed() == sum(mask)
    moved = atoms.copy()
    moved.set_constraint(held.constraints())
    for vector in vectors:
        before = moved.positions[1].copy()
        moved.set_positions(moved.positions + 0.1 * np.array(vector))
        assert moved.positions[1] - before == pytest.approx(0.1 * np.array(vector), abs=1e-11)
    moved.set_positions(moved.positions + np.array([0.3, -0.2, 0.7]))
    off = (moved.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False))[1]
    assert np.abs(off[list(mask)]).max() < 1e-11


def test_what_is_held_survives_as_json_to_the_last_bit():
    held = HeldAtoms.of(
        atoms_with(FixAtoms([0]), FixedPlane([1], (1, 2, 3)), FixedLine([2, 3], (3, 1, 2)))
    )
    assert HeldAtoms.from_data(json.loads(json.dumps(held.data()))) == held
    again = atoms_with(*held.constraints())
    assert HeldAtoms.of(again) == held
    assert again.get_number_of_degrees_of_freedom() == 12 - held.removed() == 12 - 3 - 1 - 4


@pytest.mark.parametrize(
    ("held", "dimensions"),
    [
        (NOTHING_HELD, 3),
        (HeldAtoms(fixed=(0,)), 0),
        (HeldAtoms(planes=((Z, (0,)),)), 2),
        (HeldAtoms(planes=((Z, (0,)), (X, (1,)))), 1),
        (HeldAtoms(lines=((UNIT_DIAGONAL, (0,)),)), 1),
        (HeldAtoms(lines=((X, (0,)), (Y, (1,)))), 0),
    ],
)
def test_all_atoms_can_be_shifted_together_where_none_is_held(held, dimensions):
    assert len(held.common_directions()) == dimensions


def test_what_cannot_be_held_is_named():
    kept = [FixAtoms([0]), FixScaled(0), FixCom()]
    names = not_holding([*kept, FixBondLength(0, 1), Hookean(0, 1, 5.0, rt=1.0)])
    assert names == ["FixBondLengths", "Hookean"]
    assert "FixAtoms" in HOLDING


# ---- as files say it ------------------------------------------------------------------------


def slab():
    atoms = fcc111("Al", (2, 1, 3), vacuum=6.0)
    atoms.pbc = True
    return atoms


LOWER = FixAtoms([0, 1])


@pytest.mark.parametrize("name", ["POSCAR", "slab.xyz", "slab.traj", "slab.json", "geometry.in"])
def test_fixed_layers_are_read_of_every_format(tmp_path, name):
    atoms = slab()
    atoms.set_constraint(LOWER)
    ase.io.write(tmp_path / name, atoms, **({"format": "aims"} if name[0] == "g" else {}))
    assert read_file(tmp_path / name).held == HeldAtoms(fixed=(0, 1))


def test_a_mask_of_three_columns_is_read(tmp_path):
    atoms = slab()
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], (False, True, True))])
    ase.io.write(tmp_path / "slab.xyz", atoms)
    assert read_file(tmp_path / "slab.xyz").held == HeldAtoms(fixed=(0,), lines=((X, (1,)),))


def test_flags_of_selective_dynamics_are_read(tmp_path):
    atoms = slab()
    buffer = io.StringIO()
    atoms.set_constraint([LOWER, FixScaled(2, (False, False, True))])
    ase.io.write(buffer, atoms, format="vasp")
    (tmp_path / "POSCAR").write_text(buffer.getvalue())
    assert read_file(tmp_path / "POSCAR").held == HeldAtoms(fixed=(0, 1), planes=((Z, (2,)),))


def test_all_forms_of_constrain_relaxation_are_read(tmp_path):
    held = ("constrain_relaxation .true.", "constrain_relaxation x", "constrain_relaxation T",
            "constrain_relaxation Z\nconstrain_relaxation y", "constrain_relaxation .FALSE.",
            "constrain_relaxation x\nconstrain_relaxation y\nconstrain_relaxation z")  # fmt: skip
    lines = [f"atom 0 0 {2 * i} H\n{line}\n" for i, line in enumerate(held)]
    (tmp_path / "geometry.in").write_text("".join(lines))
    assert read_file(tmp_path / "geometry.in").held == HeldAtoms(
        fixed=(0, 2, 5), planes=((X, (1,)),), lines=((X, (3,)),)
    )
