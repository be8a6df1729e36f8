"""What is found wrong before a dataset is labelled, and what follows from the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.errors import SettingsError, StructureError
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.pyscf.refusals import structure_refused
from aimspax_core.structures import AIMS_LINES

PROJECT = """
REFERENCE: {REFERENCE}
ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 1}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
"""
TBLITE = "{engine: tblite}"
AIMS = """
  engine: aims
  species_dir: species
  launch_str: aims.x
  control: {0: control.in, 1: bulk.in}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "aimsPAX.yaml").write_text(PROJECT.replace("{REFERENCE}", TBLITE))
    structures = [molecule("H2O"), molecule("H2O"), bulk("Si")]
    ase.io.write(folder / "data.xyz", structures, format="extxyz")
    return folder


@pytest.fixture
def aims(directory: Path) -> Path:
    (directory / "aimsPAX.yaml").write_text(PROJECT.replace("{REFERENCE}", AIMS))
    (directory / "species").mkdir()
    for name in ("08_O_default", "01_H_default"):
        (directory / "species" / name).write_text(f"species {name[3]}\n")
    (directory / "control.in").write_text("xc pbe\n")
    (directory / "bulk.in").write_text("xc pbe\nk_grid 2 2 2\n")
    return directory


def read(directory: Path, **asked: Any) -> RelabelInputs:
    return RelabelInputs.read(directory, RelabelRequest(**{"file": Path("data.xyz"), **asked}))


def test_neither_model_settings_nor_start_geometries_are_needed(directory: Path) -> None:
    assert [frame.index for frame in read(directory).frames] == [0, 1, 2]


def test_model_settings_that_are_there_are_checked(directory: Path) -> None:
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: a}\nARCHITECTURE: {r_max: far}\n")
    with pytest.raises(SettingsError, match=r"r_max"):
        read(directory)


def test_stress_is_written_if_the_models_train_on_it(directory: Path) -> None:
    assert read(directory).properties == ("energy", "forces")
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: a, compute_stress: True}\n")
    inputs = read(directory)
    assert inputs.properties == ("energy", "forces", "stress")
    assert inputs.stress


def test_the_output_of_a_part_has_its_own_name(directory: Path) -> None:
    assert read(directory).output == directory / "data_labelled.xyz"
    assert read(directory, start=1).output == directory / "data_labelled_1-end.xyz"
    assert read(directory, end=2).output == directory / "data_labelled_0-2.xyz"


def test_the_dataset_is_never_the_output(directory: Path) -> None:
    with pytest.raises(SettingsError, match="is the dataset itself"):
        read(directory, output=Path("../run/data.xyz"))


def test_a_dataset_that_is_not_there_is_told(directory: Path) -> None:
    with pytest.raises(StructureError, match=r"there is no file .*/other\.xyz"):
        read(directory, file=Path("other.xyz"))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"start": -1}, "--start: found -1"),
        ({"start": 2, "end": 2}, "--end: found 2; allowed: more than --start, which is 2"),
        ({"save_interval": 0}, "--save-interval: found 0"),
        ({"properties": ("dipole",)}, "--properties: found 'dipole'"),
    ],
)
def test_what_cannot_be_asked_is_told(directory: Path, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        read(directory, **asked)


def test_fhi_aims_needs_species_of_all_elements_of_the_dataset(aims: Path) -> None:
    assert len(read(aims, end=2).frames) == 2
    with pytest.raises(SettingsError, match=r"data\.xyz, frame 2: no species defaults of Si"):
        read(aims)


def test_a_mistake_of_many_frames_is_told_once(aims: Path) -> None:
    (aims / "species" / "01_H_default").unlink()
    with pytest.raises(SettingsError) as found:
        read(aims, end=2)
    assert str(found.value).count("no species defaults of H") == 1


def test_the_control_file_is_that_of_the_geometry(aims: Path) -> None:
    (aims / "species" / "14_Si_default").write_text("species Si\n")
    inputs = read(aims, start=2, geometry=1)
    assert isinstance(inputs.reference, AimsReference)
    assert inputs.reference.control == Path("bulk.in")
    with pytest.raises(SettingsError, match=r"--geometry: found 2; .* has a file for 0, 1"):
        read(aims, geometry=2)


def test_stress_is_asked_of_fhi_aims(aims: Path) -> None:
    (aims / "species" / "14_Si_default").write_text("species Si\n")
    asked = {"start": 2, "geometry": 1}
    plain, stress = read(aims, **asked), read(aims, properties=("stress",), **asked)
    assert isinstance(plain.reference, AimsReference)
    assert isinstance(stress.reference, AimsReference)
    assert (plain.reference.compute_stress, stress.reference.compute_stress) == (False, True)


def test_another_control_file_and_species_may_be_named(aims: Path) -> None:
    (aims / "tight").mkdir()
    for name in ("08_O_default", "01_H_default"):
        (aims / "tight" / name).write_text(f"species {name[3]}\n")
    (aims / "pbe0.in").write_text("xc pbe0\n")
    named = {"control": Path("pbe0.in"), "species_dir": Path("tight")}
    reference = read(aims, end=2, geometry=7, **named).reference
    assert isinstance(reference, AimsReference)
    assert (reference.control, reference.species_dir) == (Path("pbe0.in"), Path("tight"))


@pytest.mark.parametrize("flag", ["control", "species_dir"])
def test_files_that_are_not_there_are_told(aims: Path, flag: str) -> None:
    with pytest.raises(SettingsError, match="found 'gone'; there is no such file or folder"):
        read(aims, **{flag: Path("gone")})


PYSCF = "{engine: pyscf, basis: sto-3g}"


def pyscf(directory: Path, reference: str, structures: list[Atoms]) -> Path:
    (directory / "aimsPAX.yaml").write_text(PROJECT.replace("{REFERENCE}", reference))
    ase.io.write(directory / "data.xyz", structures, format="extxyz")
    return directory


def test_what_pyscf_cannot_label_is_told_of_the_first_frame_of_its_kind(directory: Path) -> None:
    slab = molecule("H2O", vacuum=3)
    slab.pbc = [True, True, False]
    radical = molecule("H2O")
    radical.info["total_charge"] = 1
    pyscf(directory, PYSCF, [molecule("H2O"), slab, slab, radical, radical, bulk("Si")])
    with pytest.raises(SettingsError) as caught:
        read(directory)
    begin = "aimsPAX.yaml:2  REFERENCE"
    assert str(caught.value).splitlines() == [
        f"{begin}.engine: data.xyz, frame 1: PySCF labels molecules, and cells periodic in all "
        "three directions, only",
        f"{begin}.spin: data.xyz, frame 3: the multiplicity is 1, but with charge 1 H2O has 9 "
        "electrons; allowed: 2, 4, …",
        f"{begin}.pseudo: data.xyz, frame 5: periodic cells need one, such as gth-pbe; PySCF has "
        "no forces without",
    ]


def test_a_radicals_multiplicity_may_be_in_the_dataset(directory: Path) -> None:
    radical = molecule("CH3")
    radical.info["total_spin"] = 2
    assert len(read(pyscf(directory, PYSCF, [radical])).frames) == 1


@pytest.mark.parametrize("engine", [TBLITE, PYSCF])
def test_a_frame_whose_own_multiplicity_is_impossible_fails_alone(
    directory: Path, engine: str
) -> None:
    broken = molecule("H2O")
    broken.info["total_spin"] = 2
    assert len(read(pyscf(directory, engine, [molecule("H2O"), broken])).frames) == 2


@pytest.mark.parametrize("own", [{"total_spin": 2}, {"total_charge": 10}])
def test_one_whose_electrons_fhi_aims_cannot_have_fails_alone(
    aims: Path, own: dict[str, int]
) -> None:
    broken = molecule("H2O")
    broken.info.update(own)
    ase.io.write(aims / "data.xyz", [molecule("H2O"), broken, molecule("H2O")], format="extxyz")
    assert len(read(aims).frames) == 3
    (aims / "control.in").write_text("xc pbe\ncharge 10\n")
    with pytest.raises(SettingsError, match=r"REFERENCE\.control: data\.xyz, frame 0: "):
        read(aims)


@pytest.mark.parametrize("engine", [TBLITE, PYSCF])
def test_a_frame_that_the_settings_make_impossible_stops_all(directory: Path, engine: str) -> None:
    with pytest.raises(SettingsError, match=r"REFERENCE\.spin: data\.xyz, frame 1: "):
        read(pyscf(directory, engine, [molecule("H2O"), molecule("CH3")]))


def test_stress_is_asked_of_pyscf_for_cells_only(directory: Path) -> None:
    cell = "{engine: pyscf, xc: hse06, basis: gth-szv, pseudo: gth-pbe}"
    pyscf(directory, cell, [bulk("Si")])
    assert len(read(directory).frames) == 1
    with pytest.raises(SettingsError, match=r"frame 0: stress is needed, but PySCF has none for"):
        read(directory, properties=("stress",))
    pyscf(directory, PYSCF, [molecule("H2O")])
    assert len(read(directory, properties=("stress",)).frames) == 1


def test_a_frame_that_nothing_can_be_made_of_does_not_speak_for_its_kind(directory: Path) -> None:
    broken, slab = (molecule("H2O", vacuum=3) for _ in range(2))
    broken.positions[0, 0] = float("nan")
    broken.pbc = slab.pbc = [True, False, False]
    with pytest.raises(SettingsError, match=r"data\.xyz, frame 1: PySCF labels molecules"):
        read(pyscf(directory, PYSCF, [broken, slab]))


def test_each_kind_is_asked_about_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(reference: Any, atoms: Atoms, stress: bool) -> str | None:
        asked.append(str(atoms.symbols))
        return structure_refused(reference, atoms, stress)

    monkeypatch.setattr("aimspax_core.reference.pyscf.refusals.structure_refused", counted)
    read(pyscf(directory, PYSCF, [molecule("H2O"), molecule("CH4")] * 50))
    assert asked == ["OH2", "CH4"]


def test_tblite_has_no_control_file(directory: Path) -> None:
    with pytest.raises(SettingsError, match=r"--control: .* the reference is tblite"):
        read(directory, control=Path("data.xyz"))


def test_a_geometry_in_is_labelled_with_all_that_it_says(aims: Path) -> None:
    (aims / "geometry.in.next_step").write_text(
        "atom 0 0 0 O\natom 0 0 9.6D-1 H\nhomogeneous_field 0 0 0.1\ntrust_radius 0.2\n"
    )
    inputs = read(aims, file=Path("geometry.in.next_step"))
    (frame,) = inputs.frames
    assert frame.structure(DataKeys()).info == {AIMS_LINES: "homogeneous_field 0 0 0.1"}
    assert any("trust_radius" in note for note in inputs.settings.notes)


def test_a_field_is_refused_for_an_engine_that_takes_none(directory: Path) -> None:
    (directory / "geometry.in").write_text("atom 0 0 0 He\nhomogeneous_field 0 0 0.1\n")
    with pytest.raises(SettingsError, match="tblite takes no fields"):
        read(directory, file=Path("geometry.in"))


@pytest.mark.parametrize("asked", [{}, {"start": 1}, {"output": Path("elsewhere.xyz")}])
def test_where_it_goes_is_known_without_a_look_at_the_dataset(
    directory: Path, asked: dict[str, Any]
) -> None:
    found = read(directory, **asked)
    (directory / "data.xyz").write_text("nonsense")
    request = RelabelRequest(**{"file": Path("data.xyz"), **asked})
    assert RelabelInputs.place(directory, request) == (found.run, found.output)
