"""A run directory is read and found fit, or refused with what is wrong."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.campaign.events import Started
from aimspax_core.campaign.journal import Journal
from aimspax_core.errors import SettingsError, StructureError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.electrons_of_models import notes_on_electrons
from aimspax_core.inputs.provenance import require_unchanged, write_provenance
from aimspax_core.labels.dataset import write
from aimspax_core.reference.aims.kind import AIMS
from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.report.plan import plan
from aimspax_core.sampling.dynamics import random_stream, start
from aimspax_core.settings.families import so3krates
from aimspax_core.settings.load import load
from aimspax_core.structures import AIMS_LINES, decode, encode

PROJECT = """
REFERENCE: {engine: tblite, spin: SPIN}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  max_initial_epochs: 4
  ensemble_size: 2
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16, ensemble_size: 2}
MD: {stat_ensemble: NVT}
MISC: {path_to_geometry: geometries}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT.replace("SPIN", "1"))
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: test, seed: 3}")
    (tmp_path / "geometries").mkdir()
    ase.io.write(tmp_path / "geometries" / "a.xyz", molecule("H2O"))
    ase.io.write(tmp_path / "geometries" / "b.xyz", molecule("CH4"))
    return tmp_path


def test_elements_of_all_geometries_count(directory: Path) -> None:
    inputs = Inputs.read(directory)
    assert inputs.elements == (1, 6, 8)
    assert inputs.rules.geometries == 2
    assert inputs.rules.tags == tuple(inputs.seeds)


def test_a_multiplicity_that_does_not_suit_the_electrons_is_refused(directory: Path) -> None:
    (directory / "aimsPAX.yaml").write_text(PROJECT.replace("SPIN", "2"))
    with pytest.raises(SettingsError, match=r"REFERENCE\.spin: a\.xyz: .* is 2, .* H2O has 10"):
        Inputs.read(directory)


def test_a_radical_needs_its_multiplicity(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "c.xyz", molecule("CH3"))
    with pytest.raises(SettingsError, match=r"spin: c\.xyz: .* CH3 has 9 electrons; allowed: 2, 4"):
        Inputs.read(directory)


def test_every_geometry_passes_the_gate_first(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "c.xyz", Atoms("H2", [(0, 0, 0), (0, 0, 0.1)]))
    with pytest.raises(StructureError, match=r"c.xyz: .*0.10 Å apart"):
        Inputs.read(directory)


def test_atomic_energies_cover_every_element(directory: Path) -> None:
    with pytest.raises(SettingsError, match=r"ARCHITECTURE.atomic_energies: no energy for C, O"):
        Inputs.read(directory, {"ARCHITECTURE.atomic_energies": {"H": -13.6}})


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_found_before_anything_starts(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SettingsError, match=r"MISC.device: found 'cuda'; torch sees no CUDA device"
    ):
        Inputs.read(directory, {"MISC.device": "cuda"})


def test_fewer_trajectories_than_geometries_is_said(directory: Path) -> None:
    inputs = Inputs.read(directory, {"ACTIVE_LEARNING.num_trajectories": 1})
    assert inputs.rules.num_trajectories == 2
    assert any("so 2 trajectories are run" in note for note in inputs.settings.notes)


def test_every_broken_geometry_of_a_folder_is_told(directory: Path) -> None:
    (directory / "geometries" / "c.xyz").write_text("garbage")
    (directory / "geometries" / "d.xyz").write_text("")
    with pytest.raises(StructureError, match=r"c\.xyz: .*\n.*d\.xyz: "):
        Inputs.read(directory)


def test_stress_is_asked_of_a_calculator_before_anything_starts(directory: Path) -> None:
    (directory / "own.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class NoStress(EMT):\n    implemented_properties = ['energy', 'forces']\n"
    )
    own = PROJECT.replace("engine: tblite, spin: SPIN", "engine: ase, calculator: own.NoStress")
    (directory / "aimsPAX.yaml").write_text(own)
    crystal = bulk("Cu", cubic=True)
    ase.io.write(directory / "geometries" / "c.extxyz", crystal)
    sys.path.insert(0, str(directory))
    try:
        with pytest.raises(SettingsError, match=r"own.NoStress does not compute stress"):
            Inputs.read(directory, {"GENERAL.compute_stress": True})
    finally:
        sys.path.remove(str(directory))


def test_a_molecule_cannot_be_run_at_constant_pressure(directory: Path) -> None:
    with pytest.raises(SettingsError, match=r"MD: a.xyz: an NPT run needs a cell .* by index"):
        Inputs.read(directory, {"MD.stat_ensemble": "NPT"})


def test_initial_charges_that_the_reference_does_not_see_are_told(directory: Path) -> None:
    ion = molecule("H2O")
    ion.set_initial_charges([1, 0, 0])
    ase.io.write(directory / "geometries" / "a.extxyz", ion)
    notes = Inputs.read(directory).settings.notes
    assert any("the initial charges add up to 1" in note for note in notes)


def test_datasets_that_have_no_effect_are_told(directory: Path) -> None:
    notes = Inputs.read(
        directory, {"ACTIVE_LEARNING.extend_existing_final_ds": True}
    ).settings.notes
    assert any("extend_existing_final_ds has no effect" in note for note in notes)


def test_a_dataset_to_begin_from_is_read_before_anything_starts(directory: Path) -> None:
    (directory / "model").mkdir()
    for tag in ("a-1", "a-2"):
        (directory / "model" / f"{tag}.model").write_text(tag)
    ase.io.write(directory / "mine.xyz", molecule("H2O"))
    given = {f"ACTIVE_LEARNING.initial_{kind}_dataset": "mine.xyz" for kind in ("train", "valid")}
    with pytest.raises(SettingsError, match=r"mine.xyz, frame 0 \(H2O\).*REF_energy"):
        Inputs.read(directory, given, "active")


@pytest.mark.parametrize(
    ("formula", "key", "index", "wrong"),
    [
        ("H2O", "REF_energy", None, None),
        ("SiH4", "REF_energy", None, "has Si"),
        ("H2O", "energy_of_mine", None, "frame 0"),
        ("H2O", "REF_energy", 9, r"test_dataset\.8"),
    ],
)
def test_a_held_out_set_is_read_before_anything_starts(
    directory: Path, formula: str, key: str, index: int | None, wrong: str | None
) -> None:
    atoms = molecule(formula)
    atoms.info[key], atoms.arrays["REF_forces"] = -1.0, np.zeros((len(atoms), 3))
    ase.io.write(directory / "test.xyz", atoms)
    value = "test.xyz" if index is None else dict.fromkeys(range(index), "test.xyz")
    if wrong is None:
        assert Inputs.read(directory, {"MISC.test_dataset": value}).rules.assessed
        return
    with pytest.raises(SettingsError, match=rf"MISC\.test_dataset.*{wrong}|{wrong}"):
        Inputs.read(directory, {"MISC.test_dataset": value})


def test_a_file_in_place_of_the_output_folder_is_told(directory: Path) -> None:
    (directory / "out").touch()
    with pytest.raises(SettingsError, match=r"MISC\.output_dir: found a file, .*out; allowed: a"):
        Inputs.read(directory, {"MISC.output_dir": "out"})


@pytest.mark.parametrize(
    "store",
    [
        "aimspax", "results", "losses", "logs", "checkpoints", "analysis", "trajectories",
        "refused", "data", "model", "aimspax/shared", "results/labels",
    ],
)  # fmt: skip
def test_a_label_store_that_fresh_would_move_is_refused(directory: Path, store: str) -> None:
    with pytest.raises(SettingsError, match=rf"MISC\.label_store: found '{store}', in .*allowed: "):
        Inputs.read(directory, {"MISC.label_store": store})


@pytest.mark.parametrize("store", ["labels", "data-labels", "../results"])
def test_a_label_store_may_lie_elsewhere(directory: Path, store: str) -> None:
    run = Inputs.read(directory, {"MISC.label_store": store}).run
    assert run.labels == (directory / store).resolve()


def test_folders_named_otherwise_are_moved_too(directory: Path) -> None:
    given = {"MISC.output_dir": "out", "MISC.dataset_dir": "sets", "MISC.label_store": "out/sets"}
    with pytest.raises(SettingsError, match=r"MISC\.label_store: found 'out/sets', in "):
        Inputs.read(directory, given)
    assert Inputs.read(directory, given | {"MISC.label_store": "out/data"}).run.store is not None


def test_what_fhi_aims_lacks_is_told_for_every_geometry(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "c.extxyz", bulk("Si"))
    (directory / "light").mkdir()
    (directory / "light" / "01_H_default").write_text("species H\n")
    (directory / "control.in").write_text("xc pbe\n")
    reference = "REFERENCE: {engine: aims, species_dir: light, launch_str: aims.x}"
    project = PROJECT.replace("REFERENCE: {engine: tblite, spin: SPIN}", reference)
    (directory / "aimsPAX.yaml").write_text(project)
    with pytest.raises(SettingsError) as caught:
        Inputs.read(directory)
    told = str(caught.value).splitlines()
    assert len(told) == 4
    for words in ("a.xyz: no species defaults of O", "b.xyz: no species defaults of C"):
        assert any(f"REFERENCE.species_dir: {words}" in line for line in told)
    needs = "REFERENCE.control: c.extxyz: a periodic structure needs k_grid, and control.in has"
    assert any(needs in line for line in told)


def test_what_pyscf_cannot_do_is_told_before_anything_starts(directory: Path) -> None:
    reference = "REFERENCE: {engine: pyscf, basis: def2-spv}"
    project = PROJECT.replace("REFERENCE: {engine: tblite, spin: SPIN}", reference)
    (directory / "aimsPAX.yaml").write_text(project)
    with pytest.raises(SettingsError, match=r"REFERENCE\.basis: a\.xyz: .*did you mean def2-?svp"):
        Inputs.read(directory)


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("srun-of-nowhere aims.x >> aims.out", True),
        ("sh -c aims.x", False),
        ("ulimit -s unlimited; aims.x", False),
        ("OMP_NUM_THREADS=1 aims.x", False),
    ],
)
def test_a_launcher_that_is_not_found_is_noted(directory: Path, line: str, noted: bool) -> None:
    (directory / "light").mkdir()
    for name in ("01_H", "06_C", "08_O"):
        (directory / "light" / f"{name}_default").write_text(f"species {name[3:]}\n")
    (directory / "control.in").write_text("xc pbe\n")
    reference = f"REFERENCE: {{engine: aims, species_dir: light, launch_str: '{line}'}}"
    project = PROJECT.replace("REFERENCE: {engine: tblite, spin: SPIN}", reference)
    (directory / "aimsPAX.yaml").write_text(project)
    notes = Inputs.read(directory).settings.notes
    assert any("not found on this machine" in note for note in notes) is noted


def test_findings_name_file_and_line_as_the_user_has_them(directory: Path) -> None:
    """One message for what is wrong with engine, geometry, dynamics and models."""
    (directory / "aimsPAX.yaml").rename(directory / "aimsPAX.yml")
    (directory / "mace.yaml").rename(directory / "model.yaml")
    project = (directory / "aimsPAX.yml").read_text().replace("spin: 1", "spin: 2")
    (directory / "aimsPAX.yml").write_text(project.replace("NVT", "NPT"))
    (directory / "model.yaml").write_text(
        "GENERAL: {name_exp: test}\nARCHITECTURE:\n  atomic_energies: {H: -13.6}\n"
    )
    with pytest.raises(SettingsError) as found:
        Inputs.read(directory)
    lines = str(found.value).splitlines()
    begins = ("aimsPAX.yml:2  REFERENCE.spin: a.xyz", "aimsPAX.yml:9  MD: a.xyz",
              "model.yaml:3  ARCHITECTURE.atomic_energies: ")  # fmt: skip
    for begin in begins:
        assert [line for line in lines if line.startswith(begin)], begin
    with pytest.raises(SettingsError, match=r"(?m)^override  REFERENCE\.spin: a\.xyz"):
        Inputs.read(directory, {"REFERENCE.spin": 4})


@pytest.mark.torch
@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"INITIAL_DATASET_GENERATION": {"initial_sampling": "mace-mp0",
                                         "initial_foundational_size": "local.model"}},
         r"INITIAL_DATASET_GENERATION\.initial_foundational_size"),
        ({"INITIAL_DATASET_GENERATION": {"initial_sampling": "mace-mp0",
                                         "foundational_model_settings":
                                             {"mace_model": "local.model"}}},
         r"INITIAL_DATASET_GENERATION\.foundational_model_settings\.mace_model"),
        ({"ACTIVE_LEARNING": {"use_foundational": True,
                              "foundational_model_settings": {"mace_model": "local.model"}}},
         r"ACTIVE_LEARNING\.foundational_model_settings\.mace_model"),
    ],
)  # fmt: skip
def test_elements_that_a_foundation_model_does_not_know_are_told(
    directory: Path, overrides: dict[str, Any], key: str
) -> None:
    from tests.reference.mace.test_engine import saved

    saved(directory / "local.model")
    with pytest.raises(SettingsError, match=rf"{key}: local\.model does not know C; .* H, O"):
        Inputs.read(directory, overrides)


SO3LR = {"foundational_model": "so3lr"}


@pytest.mark.parametrize(
    ("section", "walks"),
    [
        ("INITIAL_DATASET_GENERATION", {"initial_sampling": "foundational"}),
        ("ACTIVE_LEARNING", {"use_foundational": True}),
    ],
)
def test_what_keeps_so3lr_from_driving_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch, section: str, walks: dict[str, Any]
) -> None:
    ase.io.write(directory / "geometries" / "c.xyz", molecule("SiH4"))
    monkeypatch.setattr(so3krates, "PACKAGE", "no_such_package")
    driven = {section: walks | SO3LR | {"foundational_model_settings": {"dispersion": True}}}
    with pytest.raises(SettingsError) as found:
        Inputs.read(directory, driven)
    text = str(found.value)
    assert f"{section}.foundational_model: so3lr: " in text
    assert so3krates.EXTRA in text
    assert re.search(rf"{section}\.foundational_model: SO3LR does not know Si", text)
    assert f"{section}.foundational_model_settings.dispersion: " in text


@pytest.mark.skipif(so3krates.why_not_installed() is not None, reason="of its package")
@pytest.mark.parametrize(
    ("section", "walks"),
    [
        ("INITIAL_DATASET_GENERATION", {"initial_sampling": "foundational"}),
        ("ACTIVE_LEARNING", {"use_foundational": True}),
    ],
)
def test_a_file_that_cannot_drive_as_so3lr_is_told(
    directory: Path, section: str, walks: dict[str, Any]
) -> None:
    from tests.reference.mace.test_engine import saved
    from tests.reference.so3lr.test_engine import save_own

    save_own(directory)
    saved(directory / "mace.model")
    key = "foundational_model_settings"

    def driven(file: str) -> dict[str, Any]:
        return {section: walks | SO3LR | {key: {"model_path": file}}}

    assert Inputs.read(directory, driven("own.model"))
    with pytest.raises(SettingsError, match=rf"{section}\.{key}\.model_path: .* no so3lr model"):
        Inputs.read(directory, driven("mace.model"))
    ase.io.write(directory / "geometries" / "c.xyz", molecule("SiH4"))
    with pytest.raises(SettingsError, match=rf"{key}\.model_path: own\.model does not know Si;"):
        Inputs.read(directory, driven("own.model"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ACTIVE_LEARNING": {"use_foundational": True} | SO3LR}, True),
        ({"GENERAL.model_choice": "so3lr", "ARCHITECTURE.r_max_lr": 12.0}, True),
        ({}, False),
    ],
)
def test_who_reads_charges_is_told_that_of_the_reference(
    directory: Path, given: dict[str, Any], told: bool
) -> None:
    for name, z in (("a", 1.0), ("b", 1.1)):
        (directory / "geometries" / f"{name}.xyz").write_text(f"2\n\nO 0 0 0\nH 0 0 {z}\n")
    asked = {"REFERENCE": {"engine": "tblite", "charge": 1, "spin": 3}} | given
    inputs = Inputs.read(directory, asked)
    known = {"charge": 1.0, "spin": 3.0} if told else {}
    assert [atoms.info for atoms in inputs.geometries] == [known, known]
    shown = "\n".join(plan(inputs.settings, inputs.geometries, tuple(inputs.seeds)))
    assert ("HO with charge 1 and multiplicity 3" in shown) == told


def test_a_campaign_begun_without_charges_is_told_that_its_models_do_not_know_them(
    directory: Path,
) -> None:
    asked = {"GENERAL.model_choice": "so3lr", "ARCHITECTURE.r_max_lr": 12.0}
    asked |= {"REFERENCE": {"engine": "tblite", "charge": 2}}
    inputs = Inputs.read(directory, asked)
    with Journal(inputs.run) as journal:
        rules = inputs.rules.but(tells_electrons=False)
        journal.append(Started(rules=rules))
    again = Inputs.read(directory, asked)
    assert [atoms.info for atoms in again.geometries] == [{}, {}]
    assert any("a.xyz, b.xyz are with charge=2" in note for note in again.settings.notes)


@pytest.mark.parametrize("held_out", ["one", "by geometry", "none"])
def test_frames_that_could_be_of_either_of_two_charges_are_noted(
    directory: Path, held_out: str
) -> None:
    """What is alike in all of them is not."""
    asked: dict[str, Any] = {"GENERAL.model_choice": "so3krates"}
    frames = [molecule("H2O")]
    frames[0].info["REF_energy"], frames[0].arrays["REF_forces"] = -1.0, np.zeros((3, 3))
    write(directory / "held.xyz", frames)
    named = {"one": "held.xyz", "by geometry": {0: "held.xyz", 1: "held.xyz"}}
    asked |= {"MISC.test_dataset": named[held_out]} if held_out in named else {}
    settings = load(directory, asked)
    ions = {0: {"charge": 1.0, "spin": 2.0}, 1: {"charge": -1.0, "spin": 2.0}}
    settings = replace(settings, electrons=ions)
    for given in (True, False):
        notes = list(notes_on_electrons(settings, settings.geometries(), frames=given))
        noted = any("(charge=-1, charge=1)" in one and "to have charge=0" in one for one in notes)
        assert noted == (given or held_out == "one")
        assert any("to have spin=2" in one for one in notes) == (given or held_out != "none")


@pytest.mark.parametrize("read_first", [True, False])
def test_a_campaign_goes_on_with_the_electrons_that_it_was_begun_with(
    directory: Path, read_first: bool
) -> None:
    """Whatever reads them today; one of its geometry files says of itself what REFERENCE does."""
    file = directory / "geometries" / "a.xyz"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "total_charge=2", *lines[2:], ""]))
    plain: dict[str, Any] = {"REFERENCE": {"engine": "tblite", "charge": 2}}
    driven = plain | {"ACTIVE_LEARNING": {"use_foundational": True} | SO3LR}
    first, then = (driven, plain) if read_first else (plain, driven)
    inputs = Inputs.read(directory, first)
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    with Journal(inputs.run) as journal:
        journal.append(Started(rules=inputs.rules))
    again = Inputs.read(directory, then)
    told = {0: {"charge": 2.0}, 1: {"charge": 2.0}} if read_first else {}
    assert inputs.settings.electrons == again.settings.electrons == told
    assert [a.info for a in again.geometries] == [a.info for a in inputs.geometries]
    assert again.rules.electrons == inputs.rules.electrons
    require_unchanged(again.run, again.settings, again.geometries)
    assert not again.settings.begun_without


def test_what_a_control_file_says_of_electrons_is_known(directory: Path) -> None:
    control = "charge 1.0\nspin collinear\nfixed_spin_moment 2\n"
    (directory / "control.in").write_text(control)
    section = AimsReference.model_validate(
        {"engine": "aims", "launch_str": "aims", "species_dir": "."}
    )
    assert AIMS.electrons(section, directory) == {"charge": 1.0, "spin": 3.0}


def test_keys_of_another_foundation_model_are_noted(directory: Path) -> None:
    given = {"foundational_model_settings": {"r_max_lr": 9.0}, "initial_sampling": "foundational"}
    notes = Inputs.read(directory, {"INITIAL_DATASET_GENERATION": given}).settings.notes
    assert any("foundational_model_settings.r_max_lr has no effect" in note for note in notes)


# ---- what a geometry.in says beside the structure --------------------------------------------

WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"
CELL = "lattice_vector 9 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\n"


@pytest.fixture
def aims(directory: Path) -> Path:
    own = "engine: aims, species_dir: species, launch_str: 'true', control: control.in"
    project = PROJECT.replace("engine: tblite, spin: SPIN", own)
    (directory / "aimsPAX.yaml").write_text(project.replace("geometries}", "geometry.in}"))
    (directory / "control.in").write_text("xc pbe\nk_grid 1 1 1\n")
    (directory / "species").mkdir()
    for name in ("08_O_default", "01_H_default"):
        (directory / "species" / name).write_text(f"species {name[3]}\n")
    (directory / "geometry.in").write_text(CELL + WATER)
    return directory


SYMMETRY = """symmetry_n_params 1 1 0
symmetry_params a
symmetry_lv a, 0, 0
symmetry_lv 0, a, 0
symmetry_lv 0, 0, a
symmetry_frac 0, 0, 0
symmetry_frac 0, 0.1, 0
symmetry_frac 0, 0.9, 0
"""


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("homogeneous_field 0 0 0.1", "homogeneous_field"),
        ("multipole 5 0 0 0 1", "multipole"),
        (SYMMETRY, "7  parametric constraints"),
    ],
)
def test_what_no_campaign_can_keep_is_refused(aims: Path, lines: str, text: str) -> None:
    with (aims / "geometry.in").open("a") as file:
        file.write(lines)
    with pytest.raises(SettingsError, match=text) as found:
        Inputs.read(aims)
    assert str(aims / "geometry.in") in str(found.value)


FIXED = "constrain_relaxation .true.\n"
LAYER = "lattice_vector 4 0 0\nlattice_vector 0 4 0\nlattice_vector 0 0 30\n"
FIELD = "homogeneous_field 0 0 0.1\n"


@pytest.mark.key("AimsReference", "external_field")
@pytest.mark.parametrize(
    ("wanted", "geometry", "refused"),
    [
        # three atoms of a molecule, not on a line
        (True, FIXED.join(WATER.splitlines(keepends=True)) + FIXED + "atom 0 0 3 O\n", ""),
        # a layer, of one atom and its images, below what moves
        (True, LAYER + "atom 0 0 0 O\n" + FIXED + "atom 0 0 1 H\n", ""),
        (False, LAYER + "atom 0 0 0 O\n" + FIXED + "atom 0 0 1 H\n", "external_field: True"),
        (True, CELL + WATER, "no atom is fixed"),
        (True, CELL + WATER + FIXED, "a rotation or reflection"),
        (True, LAYER + "atom 0 0 -1 H\natom 0 0 0 O\n" + FIXED + "atom 0 0 1 H\n", "one side"),
        (True, WATER + FIXED, "on one line"),
        (True, "atom 0 0 0 O\n" + FIXED + "atom 0 0 2 O\n" + FIXED + "atom 0 0 4 O\n" + FIXED
         + "atom 0 2 2 O\n", "on one line"),
    ],
    ids=[
        "frame", "layer", "not-asked-for", "free-in-cell", "cell", "both-sides", "one-atom",
        "on-a-line",
    ],
)  # fmt: skip
def test_a_field_is_learnt_in_where_fixed_atoms_tell_it(
    aims: Path, wanted: bool, geometry: str, refused: str
) -> None:
    periodic = geometry.startswith("lattice")
    (aims / "control.in").write_text("xc pbe\n" + ("k_grid 1 1 1\n" if periodic else ""))
    (aims / "geometry.in").write_text(geometry + FIELD)
    overrides = {"REFERENCE.external_field": wanted}
    if refused:
        with pytest.raises(SettingsError, match=rf"geometry\.in: found '{FIELD[:-1]}.*{refused}"):
            Inputs.read(aims, overrides)
        return
    inputs = Inputs.read(aims, overrides)
    assert inputs.geometries[0].info[AIMS_LINES] == "homogeneous_field 0 0 0.1"
    assert any("CAUTION" in note and FIELD[:-1] in note for note in inputs.settings.notes)
    identity = build_reference(inputs.settings.reference, aims).identity()
    without = build_reference(load(aims).reference, aims).identity()
    assert identity == without  # the label's key has the field from the structure
    begun = start(inputs.geometries[0], inputs.settings.md(0), random_stream(1))
    assert begun.structure.info == inputs.geometries[0].info


@pytest.mark.key("AimsReference", "external_field")
def test_geometries_in_different_fields_are_refused(aims: Path) -> None:
    for number, field in enumerate((FIELD, "")):
        (aims / f"{number}.in").write_text(CELL + WATER + FIXED + field)
    files = {"MISC.path_to_geometry": {0: "0.in", 1: "1.in"}}
    with pytest.raises(SettingsError, match="different fields"):
        Inputs.read(aims, files | {"REFERENCE.external_field": True})


def test_no_other_engine_has_a_field_in_a_campaign(directory: Path) -> None:
    with pytest.raises(SettingsError, match=r"REFERENCE\.external_field"):
        Inputs.read(directory, {"REFERENCE.external_field": True})


def test_a_vacuum_level_stays_where_the_cell_is(aims: Path) -> None:
    with (aims / "geometry.in").open("a") as file:
        file.write("set_vacuum_level 8.0\n")
    (atoms,) = Inputs.read(aims).geometries
    assert atoms.info[AIMS_LINES] == "set_vacuum_level 8.0"


def test_what_means_nothing_here_is_noted(aims: Path) -> None:
    with (aims / "geometry.in").open("a") as file:
        file.write("constrain_relaxation .true.\ntrust_radius 0.2\n")
    notes = Inputs.read(aims).settings.notes
    assert any("geometry.in:8  trust_radius" in note for note in notes)


def test_other_engines_take_no_fields(directory: Path) -> None:
    atoms = molecule("H2O")
    atoms.info[AIMS_LINES] = "homogeneous_field 0 0 0.1"
    ase.io.write(directory / "geometries" / "a.xyz", atoms)
    with pytest.raises(SettingsError, match=r"REFERENCE.engine: a.xyz: .*tblite takes no fields"):
        Inputs.read(directory)


def test_a_campaign_that_was_begun_without_a_field_goes_on_without(aims: Path) -> None:
    begun = Inputs.read(aims)
    with Journal(begun.run) as journal:
        journal.append(Started(rules=begun.rules))
    write_provenance(begun.run, begun.settings, begun.geometries)
    with (aims / "geometry.in").open("a") as file:  # what the release before did not read
        file.write("homogeneous_field 0 0 0.1\n")
    inputs = Inputs.read(aims)
    (atoms,) = inputs.settings.geometries()
    assert AIMS_LINES not in atoms.info
    assert atoms == begun.geometries[0] == inputs.geometries[0]
    assert any("begun without" in n and "--fresh" in n for n in inputs.settings.notes)
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    with pytest.raises(SettingsError, match="homogeneous_field"):
        Inputs.read(aims, anew=True)


def test_a_campaign_that_was_begun_without_a_charge_goes_on_without(directory: Path) -> None:
    """Releases before did not read `total_charge`, as our own datasets have it."""
    begun = Inputs.read(directory)
    with Journal(begun.run) as journal:
        journal.append(Started(rules=begun.rules))
    write_provenance(begun.run, begun.settings, begun.geometries)
    atoms = molecule("H2O")
    atoms.info["total_charge"] = -1
    ase.io.write(directory / "geometries" / "a.xyz", atoms)
    inputs = Inputs.read(directory)
    assert "charge" not in inputs.settings.geometries([0])[0].info
    assert any("a.xyz" in n and "charge" in n and "--fresh" in n for n in inputs.settings.notes)
    with pytest.raises(SettingsError, match=r"REFERENCE.spin: a\.xyz"):
        Inputs.read(directory, anew=True)


def test_a_campaign_that_was_begun_with_other_elements_goes_on_with_them(directory: Path) -> None:
    """Releases before took `CA` of a residue CA for carbon, as ASE does."""
    file = directory / "geometries" / "a.gro"
    (directory / "geometries" / "a.xyz").unlink()
    calcium = "    1CA      CA    1   0.100   0.200   0.300"
    oxygen = "    2OXY      O    2   0.300   0.200   0.300"
    box = "   2.00000   2.00000   2.00000\n"
    file.write_text("\n".join(("oxide", "    2", calcium, oxygen, box)))
    begun = Inputs.read(directory)
    read = ase.io.read(file)
    assert read.get_chemical_symbols() != begun.geometries[0].get_chemical_symbols()
    with Journal(begun.run) as journal:
        journal.append(Started(rules=begun.rules))
    before = [decode(encode(read)), *begun.geometries[1:]]
    write_provenance(begun.run, begun.settings, before)
    inputs = Inputs.read(directory)
    assert inputs.geometries == inputs.settings.geometries()
    assert inputs.geometries[0].get_chemical_symbols() == read.get_chemical_symbols()
    assert any("CaO" in n and "--fresh" in n for n in inputs.settings.notes)
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    anew = Inputs.read(directory, anew=True)
    assert anew.geometries[0].get_chemical_formula() == "CaO"
    assert not any("--fresh" in n for n in anew.settings.notes)


@pytest.mark.parametrize(
    "line", ["! from the database", "-----", "empty 0 0 3 O", "atom_position_unit angstrom", "\x1a"]
)
def test_a_campaign_that_was_begun_with_a_line_that_is_refused_now_goes_on(
    aims: Path, line: str
) -> None:
    begun = Inputs.read(aims)
    with Journal(begun.run) as journal:
        journal.append(Started(rules=begun.rules))
    write_provenance(begun.run, begun.settings, begun.geometries)
    file = aims / "geometry.in"
    file.write_text(f"{file.read_text()}{line}\n")
    inputs = Inputs.read(aims)
    assert inputs.settings.geometries() == inputs.geometries == begun.geometries
    assert any("earlier release" in n and "--fresh" in n for n in inputs.settings.notes)
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    with pytest.raises(StructureError, match=r"geometry\.in"):
        Inputs.read(aims, anew=True)
    file.write_text(file.read_text().replace("0.", "0.1", 1))
    with pytest.raises(StructureError, match=r"geometry\.in"):
        Inputs.read(aims)


def test_a_campaign_that_was_begun_with_one_of_two_charges_goes_on_with_it(directory: Path) -> None:
    file = directory / "geometries" / "a.xyz"
    atoms = molecule("H2O")
    atoms.info["charge"] = 2
    ase.io.write(file, atoms)
    begun = Inputs.read(directory)
    with Journal(begun.run) as journal:
        journal.append(Started(rules=begun.rules))
    write_provenance(begun.run, begun.settings, begun.geometries)
    atoms.info["total_charge"] = 0
    ase.io.write(file, atoms)
    inputs = Inputs.read(directory)
    assert inputs.settings.geometries([1, 0])[1].info["charge"] == 2
    assert any("a.xyz" in n and "total_charge 0" in n for n in inputs.settings.notes)
    with pytest.raises(StructureError, match="total_charge 0"):
        Inputs.read(directory, anew=True)


def test_with_mistakes_in_the_settings_charges_are_looked_for_under_the_names_set_there(
    directory: Path,
) -> None:
    project = PROJECT.replace("path_to_geometry", "total_charge_key: Q, path_to_geometry")
    (directory / "aimsPAX.yaml").write_text(project.replace("SPIN", "one"))
    atoms = molecule("H2O")
    atoms.info.update(Q="many", total_charge="few")
    ase.io.write(directory / "geometries" / "a.xyz", atoms)
    with pytest.raises(SettingsError, match="Q: found 'many'") as found:
        Inputs.read(directory)
    assert "few" not in str(found.value)


def test_the_plan_tells_the_charge(directory: Path) -> None:
    atoms = molecule("H2O")
    atoms.info.update(total_charge=-1, spin=2)
    ase.io.write(directory / "geometries" / "a.xyz", atoms)
    inputs = Inputs.read(directory)
    (line, *_) = plan(inputs.settings, inputs.geometries, tuple(inputs.seeds))
    assert line == "geometries: 2 (H2O with charge -1 and multiplicity 2, CH4)"


# ---- the engine's domain, and all mistakes at once -------------------------------------------


def far(directory: Path, *positions: float) -> None:
    atoms = Atoms(f"He{len(positions)}", [(0, 0, z) for z in positions])
    ase.io.write(directory / "geometries" / "a.xyz", atoms)


def test_a_geometry_without_neighbours_within_the_cutoff_is_refused(directory: Path) -> None:
    far(directory, 0, 30)
    with pytest.raises(SettingsError, match=r"a\.xyz: no two atoms are closer than .*\(5 Å\)"):
        Inputs.read(directory)
    assert Inputs.read(directory, moves=False).geometries
    with pytest.raises(SettingsError, match="r_max"):
        far(directory, 0, 1.5)
        Inputs.read(directory, {"ARCHITECTURE.r_max": 0.5})
    far(directory, 0, 30, 34)
    assert Inputs.read(directory).geometries


def test_a_cutoff_in_another_unit_does_not_hold_up_what_looks_for_neighbours(
    directory: Path,
) -> None:
    """Within 500 Å an atom of a cell has a hundred million neighbours."""
    ase.io.write(directory / "geometries" / "a.xyz", bulk("Cu", cubic=True), format="extxyz")
    assert Inputs.read(directory, {"ARCHITECTURE.r_max": 500}).geometries


def test_one_atom_alone_is_noted(directory: Path) -> None:
    far(directory, 0)
    notes = Inputs.read(directory, {"MD.fixcm": False}).settings.notes
    assert any("a.xyz is one atom alone" in note for note in notes)


def test_an_element_that_the_method_does_not_know_is_found_before_launch(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "a.xyz", Atoms("UO", [(0, 0, 0), (0, 0, 1.8)]))
    with pytest.raises(SettingsError, match=r"method: a\.xyz: GFN2-xTB does not know U"):
        Inputs.read(directory)


def test_what_is_wrong_beside_a_mistake_in_a_file_comes_with_it(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "a.xyz", Atoms("UO", [(0, 0, 0), (0, 0, 1.8)]))
    (directory / "mace.yaml").write_text(
        "GENERAL: {name_exp: test}\nARCHITECTURE:\n  r_max: 1.5\n  atomic_energies: {H: -13}\n"
    )
    twice = PROJECT.replace("SPIN", "1").replace("MISC: {", "MISC: {log_dir: a, log_dir: b, ")
    (directory / "aimsPAX.yaml").write_text(twice)
    wrong = {"MD.timestep": -1, "ACTIVE_LEARNING.c_y": 1}
    with pytest.raises(SettingsError) as found:
        Inputs.read(directory, wrong)
    assert {m.key for m in found.value.mistakes} == {*wrong, "MISC.log_dir"}
    _, *lines = str(found.value).splitlines()
    own = len(found.value.mistakes)
    assert [line.split()[1].rstrip(":") for line in lines[own:]] == [
        "ARCHITECTURE.atomic_energies",
        "REFERENCE.method",
        "no",
    ]
    assert lines[-1].startswith(f"  {directory / 'geometries' / 'a.xyz'}: no two atoms are closer")


@pytest.mark.parametrize(
    "wrong",
    [
        {"REFERENCE.spin": "two", "ARCHITECTURE.r_max": "far"},
        {"REFERENCE.speed": 3},
        {"INITIAL_DATASET_GENERATION.n_points_per_sampling_step_idg": None},
    ],
)
def test_nothing_is_said_that_hangs_on_what_is_wrong(directory: Path, wrong: dict) -> None:
    """As long as nobody knows its spin, a radical is no mistake; nor is what has to be given."""
    radical = molecule("CH3")
    ase.io.write(directory / "geometries" / "a.xyz", radical)
    with pytest.raises(SettingsError) as found:
        Inputs.read(directory, wrong)
    assert len(str(found.value).splitlines()) == 1 + len(wrong)


@pytest.mark.torch
def test_mistakes_of_files_geometries_and_devices_come_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    project = PROJECT.replace("spin: SPIN", "accurcy: 1")
    (directory / "aimsPAX.yaml").write_text(project)
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: test}\nMISC: {device: cuda}\n")
    (directory / "geometries" / "c.in").write_text("aton 0 0 0 H\n")
    with pytest.raises(SettingsError) as found:
        Inputs.read(directory)
    for part in ("REFERENCE.accurcy", "c.in:1  aton", "mace.yaml:2  MISC.device"):
        assert part in str(found.value)


@pytest.mark.torch
def test_a_geometry_that_cannot_be_read_does_not_hide_the_device(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (directory / "geometries" / "c.in").write_text("aton 0 0 0 H\n")
    with pytest.raises(StructureError, match=r"c\.in:1  aton.*\n.*MISC\.device"):
        Inputs.read(directory, {"MISC.device": "cuda"})


def test_the_gate_does_not_hide_what_the_engine_refuses(directory: Path) -> None:
    ase.io.write(directory / "geometries" / "c.xyz", Atoms("H2", [(0, 0, 0), (0, 0, 0.1)]))
    ase.io.write(directory / "geometries" / "d.xyz", molecule("CH3"))
    with pytest.raises(SettingsError, match=r"c.xyz: .*0.10 Å apart.*\n.*spin: d\.xyz"):
        Inputs.read(directory)
