"""Reference and sampling engine are checked alike, with what each geometry file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest

SAMPLER = "INITIAL_DATASET_GENERATION.sampling_engine"
PLACES = ("REFERENCE", SAMPLER)
CERIUM = Atoms("CeO", positions=[[0, 0, 0], [0, 0, 1.8]])  # three valence electrons in GFN-xTB
EMT = {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}
LENNARD_JONES = {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones"}
"""It takes any element."""
PROJECT = """
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 3, max_initial_epochs: 4, initial_sampling: aimd}
ACTIVE_LEARNING: {num_trajectories: 1, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
MISC: {path_to_geometry: geometry.extxyz}
"""
HEADER = "#SBATCH --time=1:00:00\n#SBATCH --gres=gpu:1"
SLURM = {
    "REFERENCE": {"CLUSTER.type": "slurm", "CLUSTER.slurm_str": HEADER},
    SAMPLER: {"CLUSTER.ml": {"slurm_str": HEADER}},
}
"""What has the engine run in jobs: sampling MD runs where the models do."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: test}")
    ase.io.write(tmp_path / "geometry.extxyz", molecule("H2O"))
    return tmp_path


def engine_at(directory: Path, place: str, **engine: Any) -> dict[str, Any]:
    """Put an engine into one of the two places that have one; return what is to override."""
    reference = engine if place == "REFERENCE" else LENNARD_JONES
    (directory / "aimsPAX.yaml").write_text(f"{PROJECT}REFERENCE: {json.dumps(reference)}\n")
    sampling = {"INITIAL_DATASET_GENERATION.initial_sampling": "engine", SAMPLER: engine}
    return sampling if place == SAMPLER else {}


def structure(name: str, **info: float) -> Atoms:
    atoms = molecule(name)
    atoms.info.update(info)
    return atoms


def mistakes(directory: Path, overrides: dict[str, Any]) -> list[str]:
    """Section and key of each mistake."""
    try:
        Inputs.read(directory, overrides)
    except SettingsError as error:
        return [line.partition("  ")[2].partition(": ")[0] for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("atoms", "engine", "key"),
    [
        (structure("CH3"), {}, "spin"),
        (structure("CH3"), {"spin": 2}, None),
        (structure("CH3", spin=2), {}, None),
        (structure("CH3", spin=2), {"spin": 1}, None),
        (structure("CH3", charge=1), {}, None),
        (structure("H2O", charge=1), {}, "spin"),
        (structure("H2O", charge=1, spin=2), {}, None),
        (structure("H2O", spin=3), {}, None),
        (structure("H2O", spin=2), {}, "spin"),
        (structure("H2O", spin=1.5), {}, "spin"),
        (structure("H2O", charge=0.5), {}, "charge"),
        (structure("H2O"), {"charge": 1}, "spin"),
        (CERIUM, {}, "spin"),
        (CERIUM, {"spin": 2}, None),
        (structure("H2"), {"charge": 3}, "charge"),
        (structure("H2"), {"spin": 5}, "spin"),
    ],
    ids=str,
)
def test_tblite_has_the_charge_and_the_multiplicity_of_the_geometry_file(
    directory: Path, place: str, atoms: Atoms, engine: dict[str, Any], key: str | None
) -> None:
    ase.io.write(directory / "geometry.extxyz", atoms)
    overrides = engine_at(directory, place, engine="tblite", **engine)
    assert mistakes(directory, overrides) == ([f"{place}.{key}"] if key else [])


IRON = Atoms("FeO", positions=[[0, 0, 0], [0, 0, 1.8]])
TIP3P = {"engine": "ase", "calculator": "ase.calculators.tip3p.TIP3P"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("atoms", "engine", "reason"),
    [
        (IRON, EMT, "Fe"),
        (molecule("CH4"), TIP3P, "ValueError"),
        (molecule("H2O"), EMT, None),
        (molecule("H2O"), TIP3P, None),
    ],
)
def test_what_a_calculator_of_ase_does_not_know_is_told_before_launch(
    directory: Path, place: str, atoms: Atoms, engine: dict[str, Any], reason: str | None
) -> None:
    ase.io.write(directory / "geometry.extxyz", atoms)
    try:
        Inputs.read(directory, engine_at(directory, place, **engine))
        lines = []
    except SettingsError as error:
        lines = [line for line in str(error).splitlines() if f"{place}.calculator: " in line]
    assert len(lines) == bool(reason)
    assert all(f"geometry.extxyz: {engine['calculator']}" in line for line in lines)
    assert all(str(reason) in line.partition("cannot compute it: ")[2] for line in lines)


@pytest.mark.torch
@pytest.mark.parametrize("place", PLACES)
def test_the_gpu_of_an_engine_must_be_there(
    directory: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = engine_at(directory, place, engine="mace-mp", device="cuda")
    assert mistakes(directory, asked) == [f"{place}.device"]
    assert mistakes(directory, asked | SLURM[place]) == []


@pytest.mark.torch
def test_a_dataset_may_be_labelled_on_gpus_of_slurm_jobs(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine_at(directory, "REFERENCE", engine="mace-mp", device="cuda")
    asked = RelabelRequest(Path("geometry.extxyz"))
    with pytest.raises(SettingsError, match=r"REFERENCE\.device: found 'cuda'"):
        RelabelInputs.read(directory, asked)
    assert RelabelInputs.read(directory, asked, SLURM["REFERENCE"]).frames


def test_a_frame_with_an_impossible_multiplicity_is_told_before_a_dataset_is_labelled(
    directory: Path,
) -> None:
    frames = [structure("H2O"), structure("CH3", spin=2), structure("CH3")]
    ase.io.write(directory / "data.extxyz", frames)
    engine_at(directory, "REFERENCE", engine="tblite")
    with pytest.raises(SettingsError, match=r"REFERENCE\.spin: data\.extxyz, frame 2: "):
        RelabelInputs.read(directory, RelabelRequest(Path("data.extxyz")))


@pytest.mark.parametrize("place", PLACES)
def test_initial_charges_that_the_engine_does_not_see_are_told(directory: Path, place: str) -> None:
    ion = molecule("H2O")
    ion.set_initial_charges([1, 0, 0])
    ase.io.write(directory / "geometry.extxyz", ion)
    notes = Inputs.read(directory, engine_at(directory, place, engine="tblite")).settings.notes
    assert any(f"{place}.charge: geometry.extxyz: the initial charges" in note for note in notes)


@pytest.mark.parametrize("place", PLACES)
def test_a_program_that_is_not_on_this_machine_is_told(directory: Path, place: str) -> None:
    (directory / "light").mkdir()
    for name in ("01_H", "08_O"):
        (directory / "light" / f"{name}_default").write_text(f"species {name[3:]}\n")
    (directory / "control.in").write_text("xc pbe\n")
    engine = {"engine": "aims", "species_dir": "light", "launch_str": "srun-of-nowhere aims.x"}
    notes = Inputs.read(directory, engine_at(directory, place, **engine)).settings.notes
    assert any(f"{place}.launch_str: srun-of-nowhere is not found" in note for note in notes)


# ---- charge and spin of the structure --------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_the_charge_of_a_dataset_that_we_wrote_counts(directory: Path, place: str) -> None:
    asked = engine_at(directory, place, engine="tblite")
    for charge, key in ((-1, [f"{place}.spin"]), (1, [f"{place}.spin"]), (0, [])):
        ase.io.write(directory / "geometry.extxyz", structure("H2O", total_charge=charge))
        assert mistakes(directory, asked) == key
    assert mistakes(directory, asked | {"MISC.total_charge_key": "Q"}) == []


@pytest.mark.parametrize("place", PLACES)
def test_moments_that_the_engine_does_not_see_are_told(directory: Path, place: str) -> None:
    ase.io.write(directory / "geometry.extxyz", molecule("O2"))  # with moments of a triplet
    asked = engine_at(directory, place, engine="tblite")
    assert any("moments add up to 2" in n for n in Inputs.read(directory, asked).settings.notes)
    triplet = engine_at(directory, place, engine="tblite", spin=3)
    assert not any("moments" in n for n in Inputs.read(directory, triplet).settings.notes)


@pytest.mark.parametrize(
    ("engine", "text"),
    [(EMT, "make sure it reads it"), ({"engine": "mace-mp"}, "mace-mp does not know of it")],
)
def test_an_engine_that_may_pass_over_a_charge_is_told(
    directory: Path, engine: dict[str, str], text: str
) -> None:
    asked = engine_at(directory, "REFERENCE", **engine)
    for info, told in (({"charge": 1}, True), ({"charge": 0, "spin": 1}, False), ({}, False)):
        ase.io.write(directory / "geometry.extxyz", structure("H2O", **info))
        notes = Inputs.read(directory, asked).settings.notes
        assert any(text in note for note in notes) is told


def aims(directory: Path, control: str) -> dict[str, Any]:
    (directory / "light").mkdir()
    for name in ("01_H", "06_C", "08_O"):
        (directory / "light" / f"{name}_default").write_text(f"species {name[3:]}\n")
    (directory / "control.in").write_text(control)
    return engine_at(directory, "REFERENCE", engine="aims", species_dir="light", launch_str="true")


def test_fhi_aims_is_asked_for_electrons_that_there_are(directory: Path) -> None:
    asked = aims(directory, "xc pbe\n")
    for info, wrong in (
        ({"charge": -1, "spin": 1}, ["REFERENCE.spin"]),
        ({"charge": -1, "spin": 2}, []),
        ({"total_charge": -1, "total_spin": 1}, ["REFERENCE.spin"]),
        ({"charge": 10}, ["REFERENCE.charge"]),
        ({}, []),
    ):
        ase.io.write(directory / "geometry.extxyz", structure("H2O", **info))
        assert mistakes(directory, asked) == wrong


def test_an_odd_number_of_electrons_without_spin_is_noted(directory: Path) -> None:
    asked = aims(directory, "xc pbe\n")
    radical = structure("CH3")
    radical.set_initial_magnetic_moments(None)
    ase.io.write(directory / "geometry.extxyz", radical)
    assert any("an odd number" in n for n in Inputs.read(directory, asked).settings.notes)
    (directory / "control.in").write_text("xc pbe\nspin collinear\ndefault_initial_moment 1\n")
    assert not any("an odd number" in n for n in Inputs.read(directory, asked).settings.notes)
