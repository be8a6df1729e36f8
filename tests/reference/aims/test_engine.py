"""FHI-aims as a reference: run by the user's line, judged by what it prints."""

from __future__ import annotations

import os
import pickle
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.errors import EngineError, LabelError, SettingsError
from aimspax_core.labels.gate import check_label
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import label_key
from aimspax_core.reference.aims.engine import AimsEngine, mistakes, notes
from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.aims_reader import read_aims_geometry
from aimspax_core.structures import AIMS_LINES

AIMS = Path(__file__).parents[2] / "aims"
LINE = f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))}"
PBE = "xc pbe\ncharge 0.\nspin none\nrelativistic atomic_zora scalar\nKS_method parallel\n"
ENERGY, FORCE, STRESS = 1e-4, 2e-5, 1e-6
"""What separates two programs: eV, eV/Å, eV/Å³ (their constants, and their SCF)."""


def settings(folder: Path, control: str = PBE, **changes: object) -> AimsReference:
    (folder / "control.in").write_text(control)
    given = {"launch_str": f"{LINE} >> aims.out", "species_dir": AIMS / "species", **changes}
    return AimsReference(engine="aims", **given)  # type: ignore[arg-type]


def engine(folder: Path, control: str = PBE, **changes: object) -> AimsEngine:
    return AimsEngine(settings(folder, control, **changes), folder)


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.03, seed=1)
    return atoms


def expected(atoms: Atoms, **changes: object) -> Label:
    return TbliteEngine(TbliteReference(engine="tblite", **changes)).label(atoms)  # type: ignore[arg-type]


def folders(folder: Path) -> list[Path]:
    return sorted((folder / "calc").iterdir())


# ---- labels ---------------------------------------------------------------------------------


def test_a_label_is_what_the_program_prints(tmp_path: Path):
    water = rattled(molecule("H2O"))
    label, truth = engine(tmp_path).label(water), expected(water)
    assert label.energy == pytest.approx(truth.energy, abs=ENERGY)
    np.testing.assert_allclose(label.forces, truth.forces, atol=FORCE)
    assert label.stress is None
    assert label.structure is not None
    check_label(water, label, Gate())


@pytest.mark.key("AimsReference", "compute_stress")
def test_the_stress_of_a_cell_is_asked_for_if_it_is_wanted(tmp_path: Path):
    silicon = rattled(bulk("Si", cubic=True))
    control = PBE + "k_grid 1 1 1\n"
    plain = engine(tmp_path, control).label(silicon)
    label = engine(tmp_path, control, compute_stress=True).label(silicon)
    truth = expected(silicon).stress
    assert plain.stress is None
    assert label.stress is not None
    assert truth is not None
    np.testing.assert_allclose(label.stress, truth, atol=STRESS)


def test_how_a_label_came_about_is_told(tmp_path: Path):
    told = engine(tmp_path).label(molecule("H2")).provenance
    assert told["engine"] == "aims"
    assert told["version"]
    assert told["wall_s"] > 0
    assert told["cores"] >= 1
    assert isinstance(told["warnings"], list)


@pytest.mark.parametrize("line", [">> aims.out", "> log.txt 2>&1", "| tee a.log > b.log", ""])
def test_the_output_is_found_wherever_the_line_sends_it(tmp_path: Path, line: str):
    label = engine(tmp_path, launch_str=f"{LINE} {line}").label(molecule("H2"))
    assert label.energy == pytest.approx(expected(molecule("H2")).energy, abs=ENERGY)


@pytest.mark.key("AimsReference", "launch_str")
def test_the_line_is_a_shell_line(tmp_path: Path):
    line = f"export A=1 && mkdir -p sub; {LINE} > aims.out; test $A = 1"
    engine(tmp_path, launch_str=line).label(molecule("H2"))


@pytest.mark.key("AimsReference", "energy")
def test_the_energy_is_the_one_asked_for(tmp_path: Path):
    """The stand-in prints one energy three times; here its output says what a metal's would."""
    silicon = rattled(bulk("Si", cubic=True))
    metal = f"{LINE} | sed -E 's/(Electronic free energy +: +).*/\\1-100.5 eV/' > aims.out"
    labels = {
        energy: engine(tmp_path, PBE + "k_grid 1 1 1\n", launch_str=metal, energy=energy).label(
            silicon
        )
        for energy in ("free", "total")
    }
    assert labels["free"].energy == -100.5
    assert labels["total"].energy == labels["free"].provenance["total_energy"] != -100.5


# ---- charge, spin, moments ------------------------------------------------------------------


def test_charge_of_the_control_file_holds(tmp_path: Path):
    ion = molecule("OH")
    control = PBE.replace("charge 0.", "charge -1.")
    assert engine(tmp_path, control).label(ion).energy == pytest.approx(
        expected(ion, charge=-1).energy, abs=ENERGY
    )


def test_charge_and_spin_of_a_structure_hold_before_the_file(tmp_path: Path):
    oxygen = molecule("O2")
    oxygen.set_initial_magnetic_moments(None)
    oxygen.info.update(charge=0, spin=3)
    label = engine(tmp_path, clean_dirs=False).label(oxygen)
    assert label.energy == pytest.approx(expected(oxygen, spin=3).energy, abs=ENERGY)
    (folder,) = folders(tmp_path)
    written, _ = Control.read(folder / "control.in")
    assert written.get("spin") == ("collinear",)
    assert written.number("fixed_spin_moment") == 2.0


@pytest.mark.parametrize(("spin", "written"), [(2, -1.0), (4, 3.0)])
def test_a_moment_of_the_control_file_keeps_its_sign(tmp_path: Path, spin: int, written: float):
    """A multiplicity has none; what the file says of another one does not hold."""
    radical, control = molecule("OH"), OPEN_SHELL + "fixed_spin_moment -1\n"
    radical.set_initial_magnetic_moments([-1.0, 0.0])
    radical.info["spin"] = spin
    engine(tmp_path, control, clean_dirs=False).label(radical)
    (folder,) = folders(tmp_path)
    found, _ = Control.read(folder / "control.in")
    assert found.number("fixed_spin_moment") == written


def test_a_fractional_charge_is_written_to_the_last_digit(tmp_path: Path):
    water = molecule("H2O")
    water.info["charge"] = 1 / 3
    engine(tmp_path, clean_dirs=False).label(water)
    (folder,) = folders(tmp_path)
    written, _ = Control.read(folder / "control.in")
    assert written.number("charge") == 1 / 3


def test_moments_are_kept_where_the_structure_says_that_it_is_open_shell(tmp_path: Path):
    oxygen = molecule("O2")
    oxygen.set_initial_magnetic_moments([0.1234567891, 1.0])
    oxygen.info.update(spin=3)
    assert told(tmp_path, oxygen) == []
    engine(tmp_path, clean_dirs=False).label(oxygen)
    (folder,) = folders(tmp_path)
    written = (folder / "geometry.in").read_text().split()
    assert [written[i + 1] for i, word in enumerate(written) if word == "initial_moment"] == [
        "0.1234567891",
        "1.0",
    ]


@pytest.mark.parametrize("default", ["hund", "1.0"])
def test_atoms_that_begin_with_a_default_moment_are_told(tmp_path: Path, default: str):
    oxygen, control = molecule("O2"), PBE.replace("spin none", "spin collinear")
    oxygen.set_initial_magnetic_moments([2.0, 0.0])
    for line, number in ((f"default_initial_moment {default}\n", 1), ("", 0)):
        section = settings(tmp_path, control + line)
        assert len(list(notes(section, tmp_path, oxygen))) == number


def test_initial_moments_and_charges_of_atoms_are_written(tmp_path: Path):
    oxygen = molecule("O2")
    oxygen.set_initial_magnetic_moments([1.0, -1.0])
    oxygen.set_initial_charges([0.25, -0.25])
    engine(tmp_path, PBE.replace("spin none", "spin collinear"), clean_dirs=False).label(oxygen)
    (folder,) = folders(tmp_path)
    lines = [line.split() for line in (folder / "geometry.in").read_text().splitlines()]
    given = {
        kind: [float(x[1]) for x in lines if x[:1] == [f"initial_{kind}"]]
        for kind in ("moment", "charge")
    }
    assert given == {"moment": [1.0, -1.0], "charge": [0.25, -0.25]}


def test_fields_and_point_charges_are_written_and_part_of_the_key(tmp_path: Path):
    lines = "homogeneous_field 0 0 0.1; multipole 5 0 0 0 1.0; set_vacuum_level 9.0"
    water = rattled(molecule("H2O"))
    plain, made = water.copy(), engine(tmp_path, clean_dirs=False)
    water.info[AIMS_LINES] = lines
    made.label(water)
    (folder,) = folders(tmp_path)
    written = (folder / "geometry.in").read_text()
    assert set(lines.split("; ")) <= set(written.splitlines())
    geometry, wrong = read_aims_geometry(written)
    assert wrong == []
    assert geometry.atoms.info == water.info
    assert label_key(water, {}) != label_key(plain, {})


# ---- what is written ------------------------------------------------------------------------


@pytest.mark.key("AimsReference", "control")
def test_forces_are_added_and_the_rest_passes_through(tmp_path: Path):
    control = (
        "xc pbe\nmany_body_dispersion\nfinal_forces_cleaned .true.\n"
        "KS_method parallel\nsc_accuracy_rho 1d-5\noutput hirshfeld\noutput dipole\n"
    )
    engine(tmp_path, control, clean_dirs=False).label(molecule("H2"))
    (folder,) = folders(tmp_path)
    written, wrong = Control.read(folder / "control.in")
    assert wrong == []
    assert written.flag("compute_forces")
    before, _ = Control.parse(control)
    assert [(k.name, k.values) for k in written.keywords if k.name != "compute_forces"] == [
        (k.name, k.values) for k in before.keywords
    ]
    assert written.species == ("H",)


def test_positions_are_written_at_full_precision(tmp_path: Path):
    water = rattled(molecule("H2O"))
    engine(tmp_path, clean_dirs=False).label(water)
    (folder,) = folders(tmp_path)
    rows = [line.split() for line in (folder / "geometry.in").read_text().splitlines()]
    written = np.array([[float(x) for x in row[1:4]] for row in rows if row[:1] == ["atom"]])
    np.testing.assert_allclose(written, water.positions, atol=1e-15)


# ---- folders --------------------------------------------------------------------------------


@pytest.mark.key("AimsReference", "clean_dirs")
def test_good_folders_go_and_failed_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = engine(tmp_path)
    made.label(molecule("H2"))
    assert folders(tmp_path) == []
    monkeypatch.setenv("AIMS_STAND_IN", "no-scf")
    with pytest.raises(LabelError) as found:
        made.label(molecule("H2"))
    (folder,) = folders(tmp_path)
    assert {"control.in", "geometry.in", "aims.out"} <= {path.name for path in folder.iterdir()}
    assert str(folder) in str(found.value)


def test_each_calculation_has_a_folder_of_its_own(tmp_path: Path):
    made = engine(tmp_path, clean_dirs=False)
    made.label(molecule("H2"))
    made.label(molecule("H2"))
    assert len(folders(tmp_path)) == 2


@pytest.mark.key("AimsReference", "calc_dir")
def test_calculations_lie_in_the_folder_that_was_asked_for(tmp_path: Path):
    engine(tmp_path, calc_dir=Path("dft/all"), clean_dirs=False).label(molecule("H2"))
    assert len(list((tmp_path / "dft" / "all").iterdir())) == 1


# ---- outcomes -------------------------------------------------------------------------------

FAILURES = {
    "no-scf": (False, "SCF did not converge"),
    "no-scf-nice": (False, "SCF did not converge"),
    "die": (True, ""),
    "segfault": (True, ""),
    "oom": (True, "out of memory"),
    "truncate": (True, ""),
    "empty": (True, "is empty"),
    "disk-full": (True, "disk is full"),
    "nan": (True, ""),
    "node-fail": (True, "node or the batch system"),
}


@pytest.mark.parametrize("mode", FAILURES)
def test_failures_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    monkeypatch.setenv("AIMS_STAND_IN", mode)
    with pytest.raises(LabelError) as found:
        engine(tmp_path).label(rattled(molecule("H2O")))
    transient, words = FAILURES[mode]
    assert found.value.transient is transient
    assert words in str(found.value)
    again = pickle.loads(pickle.dumps(found.value))
    assert (str(again), again.transient) == (str(found.value), transient)


@pytest.mark.key("AimsReference", "timeout")
def test_a_hanging_calculation_is_ended_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIMS_STAND_IN", "hang")
    with pytest.raises(LabelError, match="was not ready in the time it was given") as found:
        engine(tmp_path, timeout=3.0).label(molecule("H2"))
    assert found.value.transient


def test_wrong_input_stops_with_the_programs_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIMS_STAND_IN", "wrong-input")
    with pytest.raises(EngineError, match="FHI-aims refuses its input: ") as found:
        engine(tmp_path).label(molecule("H2"))
    assert str(folders(tmp_path)[0]) in str(found.value)


@pytest.mark.parametrize("line", ["/nowhere/aims.x > aims.out", "exit 0"])
def test_a_line_that_runs_nothing_is_no_label(tmp_path: Path, line: str):
    with pytest.raises(LabelError) as found:
        engine(tmp_path, launch_str=line).label(molecule("H2"))
    assert found.value.transient


@pytest.mark.parametrize(("mode", "why"), [("reorder", "another order"), ("explode", "a force of")])
def test_the_gate_finds_what_the_output_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, why: str
):
    water = rattled(molecule("H2O"))
    monkeypatch.setenv("AIMS_STAND_IN", mode)
    label = engine(tmp_path).label(water)
    with pytest.raises(LabelError, match=why):
        check_label(water, label, Gate())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_the_worlds_fault(tmp_path: Path):
    (tmp_path / "calc").mkdir(mode=0o500)
    with pytest.raises(LabelError) as found:
        engine(tmp_path).label(molecule("H2"))
    assert found.value.transient


# ---- identity -------------------------------------------------------------------------------


def key(folder: Path, control: str = PBE, atoms: str = "H2O", **changes: object) -> str:
    return label_key(molecule(atoms), engine(folder, control, **changes).identity())


def test_what_changes_no_answer_is_not_in_the_key(tmp_path: Path):
    same = key(tmp_path)
    assert key(tmp_path, "# mine\n" + PBE.replace("xc pbe", "XC\tPBE")) == same
    assert key(tmp_path, PBE.replace("parallel", "serial")) == same
    assert key(tmp_path, launch_str="mpirun aims.x", calc_dir=Path("x"), timeout=5.0) == same


@pytest.mark.key("AimsReference", "version")
def test_what_changes_the_answer_is_in_the_key(tmp_path: Path):
    keys = {
        key(tmp_path),
        key(tmp_path, PBE.replace("pbe", "pbe0")),
        key(tmp_path, PBE + "many_body_dispersion\n"),
        key(tmp_path, version="240507"),
        key(tmp_path, energy="total"),
        key(tmp_path, compute_stress=True),
    }
    assert len(keys) == 6


@pytest.mark.key("AimsReference", "species_dir")
def test_the_species_of_its_elements_are_in_the_key(tmp_path: Path):
    species = tmp_path / "species"
    species.mkdir()
    for name in ("01_H", "06_C", "08_O"):
        (species / f"{name}_default").write_text(f"species {name}\n")
    before = {atoms: key(tmp_path, atoms=atoms, species_dir=species) for atoms in ("H2O", "CH4")}
    (species / "06_C_default").write_text("species C\n  tight\n")
    assert key(tmp_path, atoms="H2O", species_dir=species) == before["H2O"]
    assert key(tmp_path, atoms="CH4", species_dir=species) != before["CH4"]


# ---- before anything is launched ------------------------------------------------------------


def told(folder: Path, atoms: Atoms, control: str = PBE, **changes: object) -> list[str]:
    found = mistakes(settings(folder, control, **changes), folder, atoms)
    return [f"{key}: {text}" for key, text in found]


def test_nothing_is_wrong_with_what_is_right(tmp_path: Path):
    assert told(tmp_path, molecule("CH3CONH2")) == []
    assert told(tmp_path, bulk("Si"), PBE + "k_grid 4 4 4\n") == []
    assert told(tmp_path, bulk("Si"), PBE + "k_grid_density 3.0\n") == []


def test_every_element_without_species_is_named(tmp_path: Path):
    first, second = told(tmp_path, Atoms("HFXe", [[0, 0, i] for i in range(3)]))
    assert first.startswith("species_dir: no species defaults of F: ")
    assert "has no 09_F_default; it has H, C, N, O, Na, Si, Cl, Cu" in first
    assert "54_Xe_default" in second


@pytest.mark.parametrize(
    ("text", "words"),
    [("garbage\n", "has no line `species`"), ("# C\n  species   C\n", "has `species C`")],
)
def test_species_of_another_element_are_told(tmp_path: Path, text: str, words: str):
    species = tmp_path / "species"
    species.mkdir()
    (species / "01_H_default").write_text(text)
    (only,) = told(tmp_path, molecule("H2"), species_dir=species)
    assert f"01_H_default {words}; it should have `species H`" in only


def test_a_folder_above_the_species_is_told_with_the_one_that_is_meant(tmp_path: Path):
    (tmp_path / "above" / "light").mkdir(parents=True)
    (tmp_path / "above" / "light" / "01_H_default").touch()
    (only,) = told(tmp_path, molecule("H2"), species_dir=tmp_path / "above")
    assert only.endswith(f"did you mean {tmp_path / 'above' / 'light'}?")


def test_a_k_grid_is_for_cells_only_and_they_need_one(tmp_path: Path):
    assert told(tmp_path, molecule("H2O"), PBE + "k_grid 2 2 2\n") == [
        "control: control.in has k_grid, which is not for molecules (there may be a file for each "
        "geometry, by index: {0: control.in, 1: bulk.in})"
    ]
    assert told(tmp_path, bulk("Si")) == [
        "control: a periodic structure needs k_grid, and control.in has none"
    ]


def test_a_slab_that_is_periodic_in_two_directions_is_refused(tmp_path: Path):
    slab = bulk("Cu")
    slab.pbc = (True, True, False)
    (only,) = told(tmp_path, slab, PBE + "k_grid 2 2 2\n")
    assert only.endswith("this one is periodic in 2")


def test_moments_need_a_spin_polarised_calculation(tmp_path: Path):
    oxygen = molecule("O2")
    oxygen.set_initial_magnetic_moments([1.0, 1.0])
    (only,) = told(tmp_path, oxygen)
    assert "need `spin collinear`" in only
    assert told(tmp_path, oxygen, PBE.replace("spin none", "spin collinear")) == []


def electrons(atoms: Atoms, **info: float) -> Atoms:
    atoms.info.update(info)
    return atoms


OPEN_SHELL = PBE.replace("spin none", "spin collinear")
METAL = PBE + "k_grid 4 4 4\n"
OPEN_METAL = OPEN_SHELL + "k_grid 4 4 4\n"


@pytest.mark.parametrize(
    ("atoms", "control", "key"),
    [
        (electrons(molecule("H2O"), spin=2), PBE, "spin"),
        (electrons(molecule("H2O"), spin=2, charge=2), PBE, "spin"),
        (electrons(molecule("H2O"), spin=1.5), PBE, "spin"),
        (electrons(molecule("H2O"), charge=10), PBE, "charge"),
        (molecule("H2O"), PBE.replace("charge 0.", "charge 10."), "control"),
        (electrons(bulk("Cu"), spin=0), METAL, "spin"),
        (electrons(bulk("Cu"), spin=31), METAL, "spin"),
    ],
)
def test_who_says_impossible_electrons_is_told(
    tmp_path: Path, atoms: Atoms, control: str, key: str
):
    (only,) = told(tmp_path, atoms, control)
    assert only.startswith(f"{key}: ")
    with pytest.raises(LabelError) as refused:
        engine(tmp_path, control).label(atoms)
    assert only == f"{key}: {refused.value}"
    assert not refused.value.transient and not (tmp_path / "calc").exists()


@pytest.mark.parametrize("spin", [1, 2, 3])
@pytest.mark.parametrize("control", [METAL, OPEN_METAL])
def test_a_cell_may_have_any_moment_that_its_electrons_allow(
    tmp_path: Path, control: str, spin: int
):
    assert told(tmp_path, electrons(bulk("Cu"), spin=spin), control) == []


@pytest.mark.parametrize("spin", [1, 2])
def test_a_fractional_charge_goes_with_a_multiplicity(tmp_path: Path, spin: int):
    half = OPEN_SHELL.replace("charge 0.", "charge 0.5")
    assert told(tmp_path, electrons(molecule("H2O"), spin=spin), half) == []
    assert told(tmp_path, electrons(molecule("H2O"), spin=spin, charge=0.5), OPEN_SHELL) == []


def test_a_control_file_with_mistakes_makes_no_engine(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"control\.in:2  MD_run: "):
        engine(tmp_path, "xc pbe\nMD_run 1.0 NVE\n")


# ---- MD by the reference --------------------------------------------------------------------


def test_its_calculator_gives_what_labels_have(tmp_path: Path):
    water = rattled(molecule("H2O"))
    made = engine(tmp_path)
    label = made.label(water)
    water.calc = made.calculator()
    assert water.get_potential_energy() == pytest.approx(label.energy, abs=1e-12)
    np.testing.assert_allclose(water.get_forces(), label.forces, atol=1e-12)
