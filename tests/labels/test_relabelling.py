"""Frames of a dataset, and what is written of their new labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from aimspax_core.errors import StructureError
from aimspax_core.labels.dataset import DataKeys, read_labels
from aimspax_core.labels.label import Label
from aimspax_core.labels.relabelling import Frame, Property, Relabelled, failed_file
from aimspax_core.labels.relabelling import read_frames as frames_and_notes
from aimspax_core.settings.engines import Gate

KEYS = DataKeys()
ALL: tuple[Property, ...] = ("energy", "forces", "stress")


def read_frames(path: Path, *which: Any) -> list[Frame]:
    return frames_and_notes(path, *which)[0]


def water(**info: object) -> Atoms:
    atoms = molecule("H2O")
    atoms.info |= info
    return atoms


def written(path: Path, *structures: Atoms) -> Path:
    ase.io.write(path, list(structures), format="extxyz")
    return path


def relabelled(
    frames: list[Frame], properties: tuple[Property, ...] = ALL, keys: DataKeys = KEYS
) -> Relabelled:
    """Each frame with an energy of −index and forces of +index."""
    made = Relabelled(frames, keys, properties, Gate())
    for frame in frames:
        made.belongs(frame, f"{frame.index}")
        forces = np.full((len(frame.atoms), 3), float(frame.index))
        made.labels[f"{frame.index}"] = Label(-float(frame.index), forces, np.eye(3))
    return made


def test_labels_under_the_settings_names_are_replaced(tmp_path: Path) -> None:
    atoms = water(REF_energy=5.0, REF_virials=np.eye(3))
    atoms.arrays["REF_forces"] = np.ones((3, 3))
    frames = read_frames(written(tmp_path / "a.xyz", molecule("H2"), atoms), KEYS)
    assert (frames[1].energy, frames[0].energy) == (5.0, None)
    relabelled(frames).write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz", index=1)
    assert found.info["REF_energy"] == -1.0
    assert (found.arrays["REF_forces"] == 1.0).all()
    assert "REF_virials" not in found.info


def test_labels_under_the_names_of_ase_are_replaced(tmp_path: Path) -> None:
    crystal = bulk("Cu")
    crystal.calc = EMT()
    stress, energy = crystal.get_stress(), crystal.get_potential_energy()
    forces = crystal.get_forces()
    crystal.calc = SinglePointCalculator(crystal, energy=energy, forces=forces, stress=stress)
    (frame,) = read_frames(written(tmp_path / "a.xyz", crystal), KEYS)
    assert frame.energy == pytest.approx(energy, abs=1e-6)
    assert frame.atoms.info == {}
    assert set(frame.atoms.arrays) == {"numbers", "positions"}


def test_any_format_of_ase_is_read(tmp_path: Path) -> None:
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    ase.io.write(tmp_path / "a.traj", [molecule("H2"), atoms])
    assert [frame.energy for frame in read_frames(tmp_path / "a.traj", KEYS)] == [None, -3.0]


def test_all_else_is_carried_along(tmp_path: Path) -> None:
    atoms = water(config_type="bulk", head="dft", note="mine", total_charge=1.0)
    atoms.arrays["tag"] = np.array([1, 2, 3])
    frames = read_frames(written(tmp_path / "a.xyz", atoms), KEYS)
    relabelled(frames).write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz")
    told = {name: found.info[name] for name in ("config_type", "head", "note", "total_charge")}
    assert told == {"config_type": "bulk", "head": "dft", "note": "mine", "total_charge": 1.0}
    assert found.arrays["tag"].tolist() == [1, 2, 3]


def test_what_a_format_says_of_charge_leaves_no_mark_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.com").write_text("#p hf\n\nt\n\n1 2\nN 0 0 0\nN 0 0 1.1\n\n")
    (frame,), _ = frames_and_notes(tmp_path / "a.com", KEYS)
    assert not [name for name in frame.atoms.info if name.startswith("aimspax")]
    assert frame.structure(KEYS).info == {"charge": 1.0, "spin": 2.0}


def test_constraints_stay_in_the_dataset_and_take_no_forces(tmp_path: Path) -> None:
    atoms = water()
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.full((3, 3), 2.0))
    frames = read_frames(written(tmp_path / "a.xyz", molecule("H2"), atoms), KEYS)
    np.testing.assert_array_equal(frames[1].forces, np.full((3, 3), 2.0))
    assert not frames[1].structure(KEYS).constraints
    relabelled(frames).write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz", index=1)
    assert found.constraints[0].index.tolist() == [0]
    assert found.arrays["REF_forces"].all()


def test_charge_and_multiplicity_reach_the_reference_and_the_dataset(tmp_path: Path) -> None:
    frames = read_frames(written(tmp_path / "a.xyz", water(charge=1, spin=2)), KEYS)
    assert frames[0].structure(KEYS).info == {"charge": 1.0, "spin": 2.0}
    relabelled(frames).write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz").info
    assert (found["total_charge"], found["total_spin"]) == (1.0, 2.0)


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    frames = read_frames(written(tmp_path / "a.xyz", water()), KEYS)
    relabelled(frames, ("energy",)).write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz")
    assert found.info == {"REF_energy": 0.0}
    assert set(found.arrays) == {"numbers", "positions"}


@pytest.mark.parametrize(
    "keys", [KEYS, DataKeys(energy="energy", forces="forces", stress="stress")]
)
def test_what_is_written_is_a_dataset(tmp_path: Path, keys: DataKeys) -> None:
    frames = read_frames(written(tmp_path / "a.xyz", bulk("Cu"), bulk("Cu", a=3.7)), keys)
    relabelled(frames, keys=keys).write(tmp_path / "b.xyz")
    labels = [label for _, label in read_labels(tmp_path / "b.xyz", keys)]
    assert [label.energy for label in labels] == [0.0, -1.0]
    np.testing.assert_allclose(labels[1].stress, np.eye(3))
    assert (labels[1].forces == 1.0).all()


def test_a_part_of_a_file_keeps_its_places(tmp_path: Path) -> None:
    file = written(tmp_path / "a.xyz", *(water(n=n) for n in range(6)))
    found = [(frame.index, frame.atoms.info["n"]) for frame in read_frames(file, KEYS, 2, 4)]
    assert found == [(2, 2), (3, 3)]


def test_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.xyz", water())
    with pytest.raises(StructureError, match="no frames from 3 to the end"):
        read_frames(file, KEYS, 3)


def test_a_file_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("what is this\n")
    with pytest.raises(StructureError, match="cannot be read as a geometry"):
        read_frames(tmp_path / "a.xyz", KEYS)


@pytest.mark.parametrize(
    ("atoms", "why"),
    [
        (water(charge="plus"), "charge: found 'plus'"),
        (Atoms("H", [[0, 0, float("nan")]]), "not a finite number"),
        (Atoms(), "holds no atoms"),
    ],
)
def test_a_frame_that_is_no_structure_is_told(atoms: Atoms, why: str) -> None:
    with pytest.raises(StructureError, match=why):
        Frame(0, atoms).structure(KEYS)


def test_failed_frames_are_left_out_and_listed(tmp_path: Path) -> None:
    made = relabelled([Frame(index, water(n=index)) for index in range(3)])
    del made.labels["1"]
    made.reasons["1"] = 'no "convergence", alas'
    made.write(tmp_path / "b.xyz")
    found = ase.io.read(tmp_path / "b.xyz", index=":")
    assert [atoms.info["n"] for atoms in found] == [0, 2]
    listed = failed_file(tmp_path / "b.xyz").read_text().splitlines()
    assert listed == ["frame,formula,reason", '1,H2O,"no ""convergence"", alas"']


def test_the_list_goes_when_nothing_fails_any_more(tmp_path: Path) -> None:
    failed_file(tmp_path / "b.xyz").write_text("old")
    relabelled([Frame(0, water())]).write(tmp_path / "b.xyz")
    assert not failed_file(tmp_path / "b.xyz").exists()


def test_without_labels_an_earlier_file_stays(tmp_path: Path) -> None:
    (tmp_path / "b.xyz").write_text("dear")
    made = Relabelled([Frame(0, water())], KEYS, ALL, Gate())
    made.unfit(Frame(0, water()), "no")
    made.write(tmp_path / "b.xyz")
    assert (tmp_path / "b.xyz").read_text() == "dear"


def test_the_same_structure_twice_gets_the_same_label(tmp_path: Path) -> None:
    frames = [Frame(0, water(n=0)), Frame(1, water(n=1))]
    made = Relabelled(frames, KEYS, ALL, Gate())
    made.labels["both"] = Label(-7.0, np.zeros((3, 3)))
    for frame in frames:
        made.belongs(frame, "both")
    made.write(tmp_path / "b.xyz")
    assert [a.info["REF_energy"] for a in ase.io.read(tmp_path / "b.xyz", index=":")] == [-7.0] * 2


@pytest.mark.parametrize("place", [0, 4])
def test_an_outlier_is_refused_wherever_it_stands(place: int) -> None:
    frames = [Frame(index, water()) for index in range(5)]
    made = relabelled(frames)
    for key in made.labels:
        made.labels[key] = Label(-30.0, np.zeros((3, 3)))
    made.labels[f"{place}"] = Label(-300.0, np.zeros((3, 3)))
    assert [frame.index for frame, _ in made.failed] == [place]
    assert "-90.00 eV/atom from the median of the 5 labels of H2O" in made.failed[0][1]
    assert len(made.labelled) == 4


def test_three_labels_of_a_composition_judge_nobody() -> None:
    made = relabelled([Frame(index, water()) for index in range(3)])
    made.labels["0"] = Label(-300.0, np.zeros((3, 3)))
    assert len(made.labelled) == 3


def test_new_labels_are_compared_with_the_old_ones() -> None:
    old = Frame(2, water(), energy=1.0, forces=np.full((3, 3), 0.5))
    difference = relabelled([old, Frame(1, molecule("H2"))]).difference()
    assert difference is not None
    assert difference.frames == 1
    assert difference.energy_per_atom == pytest.approx(1.0)
    assert difference.forces == pytest.approx(1.5)


def test_without_old_labels_there_is_nothing_to_compare() -> None:
    assert relabelled([Frame(0, water())]).difference() is None
