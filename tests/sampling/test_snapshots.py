"""Snapshots and predictions on disk: complete, readable by ASE, and written whole or not at all."""

import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.prediction import Prediction
from aimspax_core.sampling.snapshots import Snapshot, save_prediction, write_snapshots


def snapshot(
    atoms: Atoms, step: int, members: int = 2, uncertainty: float | None = None
) -> Snapshot:
    rng = np.random.default_rng(step)
    atoms = atoms.copy()
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)))
    forces = rng.standard_normal((members, len(atoms), 3))
    return Snapshot(atoms, step, -1.5 * step, forces[:2].sum(axis=0) / 2, forces, uncertainty)


TRICLINIC = Atoms("CuO", [[0, 0, 0], [1, 2, 3]], cell=[[4, 0.5, 0.25], [1, 5, 2], [0, 3, 6]], pbc=1)
SLAB = Atoms("Cu", cell=[3, 3, 0], pbc=[True, True, False])


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Cu"), TRICLINIC, SLAB])
def test_ase_reads_everything_back(tmp_path, atoms):
    snapshots = [snapshot(atoms, 5), snapshot(atoms, 10, uncertainty=0.25)]
    path = tmp_path / "new" / "part.extxyz"
    write_snapshots(path, snapshots, {"trajectory": 3, "rollbacks": 1}, ["water-17", "water-4"])
    found = ase.io.read(path, ":")
    for made, read in zip(snapshots, found, strict=True):
        assert read.get_chemical_formula() == atoms.get_chemical_formula()
        assert (read.pbc == atoms.pbc).all()
        close = {"rtol": 0, "atol": 1e-7}
        np.testing.assert_allclose(read.cell, atoms.cell, **close)
        np.testing.assert_allclose(read.positions, atoms.positions, **close)
        np.testing.assert_allclose(read.arrays["velocities"], made.atoms.get_velocities(), **close)
        np.testing.assert_allclose(read.get_forces(), made.forces, **close)
        for tag, forces in zip(("water-17", "water-4"), made.member_forces, strict=True):
            np.testing.assert_allclose(read.arrays[f"forces_{tag}"], forces, **close)
        assert read.get_potential_energy() == made.energy
        info = {"step": made.step, "trajectory": 3, "rollbacks": 1}
        assert read.info == info | ({"uncertainty": 0.25} if made.step == 10 else {})


def test_members_without_tags_are_numbered_and_odd_tags_made_fit(tmp_path):
    path = tmp_path / "part.extxyz"
    write_snapshots(path, [snapshot(molecule("H2O"), 1)], {})
    assert {"forces_0", "forces_1"} <= {*ase.io.read(path).arrays}
    write_snapshots(path, [snapshot(molecule("H2O"), 1)], {}, ["my model:1", 'a="b"'])
    assert {"forces_my_model_1", "forces_a__b_"} <= {*ase.io.read(path).arrays}


def test_snapshots_without_a_committee_have_the_forces_alone(tmp_path):
    path = tmp_path / "part.extxyz"
    write_snapshots(path, [snapshot(molecule("H2O"), 1, members=0)], {"geometry": 0})
    read = ase.io.read(path)
    assert {*read.arrays} == {"numbers", "positions", "velocities"}
    assert read.calc.results.keys() == {"energy", "forces"}


def test_no_snapshots_leave_no_file(tmp_path):
    path = tmp_path / "part.extxyz"
    write_snapshots(path, [snapshot(molecule("H2O"), 1)], {})
    write_snapshots(path, [], {})
    write_snapshots(path, [], {})
    assert [*tmp_path.iterdir()] == []


def test_the_atoms_given_stay_as_they_were(tmp_path):
    made = snapshot(molecule("H2O"), 1)
    momenta = made.atoms.get_momenta()
    write_snapshots(tmp_path / "part.extxyz", [made], {})
    np.testing.assert_array_equal(made.atoms.get_momenta(), momenta)
    assert made.atoms.calc is None


def test_parts_one_after_the_other_are_one_trajectory(tmp_path):
    for part in (1, 2):
        snapshots = [snapshot(molecule("H2O"), 10 * part + i) for i in range(2)]
        write_snapshots(tmp_path / f"{part}.extxyz", snapshots, {})
    text = "".join((tmp_path / f"{part}.extxyz").read_text(encoding="utf-8") for part in (1, 2))
    read = ase.io.read(io.StringIO(text), ":", format="extxyz")
    assert [atoms.info["step"] for atoms in read] == [10, 11, 20, 21]


def test_a_prediction_is_exact_and_needs_no_pickle(tmp_path):
    forces = np.random.default_rng(0).standard_normal((3, 4, 3))
    energies = np.array([1.0, 2.0, 4.0])
    path = tmp_path / "ab" / "abc.npz"
    save_prediction(path, Prediction(7 / 3, forces.mean(axis=0), energies, forces), 5, 150, 0.25)
    with np.load(path, allow_pickle=False) as found:
        names = "member_forces forces member_energies step trajectory threshold"
        assert {*found} == {*names.split()}
        np.testing.assert_array_equal(found["member_forces"], forces)
        np.testing.assert_array_equal(found["forces"], forces.mean(axis=0))
        np.testing.assert_array_equal(found["member_energies"], energies)
        assert (int(found["step"]), int(found["trajectory"])) == (150, 5)
        assert float(found["threshold"]) == 0.25
    assert [p.name for p in path.parent.iterdir()] == ["abc.npz"]
