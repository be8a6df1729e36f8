"""The stand-in for FHI-aims, against real outputs of the program and against tblite."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.units import Bohr, Hartree
from pyfhiaims.outputs.stdout import AimsStdout
from tblite.interface import Calculator

from aimspax_core.errors import EngineError, LabelError
from aimspax_core.reference.aims.output import AimsFiles, read_result

HERE = Path(__file__).parent
REAL = Path(ase.__file__).parent / "test/testdata/aims"
FORCES = "xc pbe\ncompute_forces .true.\n"
PERIODIC = f"{FORCES}k_grid 2 2 2\ncompute_analytical_stress .true.\n"


def species(atoms: Atoms) -> str:
    folder = HERE / "species"
    symbols = dict.fromkeys(atoms.get_chemical_symbols())
    return "".join(next(folder.glob(f"??_{s}_default")).read_text() for s in symbols)


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=3)
    return atoms


def write(folder: Path, atoms: Atoms, control: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "control.in").write_text(control + species(atoms))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ase.io.write(folder / "geometry.in", atoms, format="aims")


def run(folder: Path, **environment: str) -> AimsFiles:
    done = subprocess.run(
        [sys.executable, HERE / "stand_in.py"],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (folder / "aims.out").write_text(done.stdout)
    return AimsFiles(done.stdout, done.stderr, done.returncode)


@pytest.fixture
def copper(tmp_path: Path) -> Callable[..., AimsFiles]:
    """Two Cu atoms with EMT, which starts fastest."""
    write(tmp_path, Atoms("Cu2", [(0, 0, 0), (2.3, 0.1, 0)]), FORCES)
    return lambda **environment: run(tmp_path, AIMS_STAND_IN_METHOD="emt", **environment)


def direct(atoms: Atoms, charge: int = 0, uhf: int = 0) -> Calculator:
    """tblite without ASE: Hartree and Bohr."""
    periodic = {}
    if atoms.pbc.any():
        periodic = {"lattice": atoms.cell.array / Bohr, "periodic": atoms.pbc}
    calculator = Calculator(
        "GFN2-xTB", atoms.numbers, atoms.positions / Bohr, charge, uhf, **periodic
    )
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.01)
    return calculator.singlepoint()


# What it computes and prints


@pytest.mark.parametrize("level", ["normal", "MD_light"])
def test_ase_and_pyfhiaims_read_what_tblite_says_of_a_crystal(tmp_path: Path, level: str) -> None:
    atoms = rattled(bulk("Si"))
    write(tmp_path, atoms, f"{PERIODIC}output_level {level}\n")
    result = read_result(run(tmp_path))
    truth = direct(atoms)
    assert result.energy == pytest.approx(truth.get("energy") * Hartree, abs=1e-6)
    assert result.forces == pytest.approx(-truth.get("gradient") * Hartree / Bohr, abs=1e-5)
    stress = truth.get("virial") * Hartree / atoms.get_volume()
    assert result.stress == pytest.approx(stress, abs=1e-6)
    assert result.atoms.positions == pytest.approx(atoms.positions, abs=1e-8)
    assert result.atoms.cell.array == pytest.approx(atoms.cell.array, abs=1e-8)

    other = AimsStdout(tmp_path / "aims.out")
    image = other[-1]
    assert other.is_finished_ok
    assert image.converged
    assert image["free_energy"] == result.free_energy
    assert image["total_energy"] == result.energy
    assert np.array_equal(image["forces"], result.forces)
    assert result.stress is not None
    assert np.array_equal(image["stress"], result.stress)
    assert [atom.symbol for atom in image.geometry.atoms] == ["Si", "Si"]


@pytest.mark.parametrize(
    ("control", "charge", "uhf"),
    [("", 0, 0), ("charge 1\n", 1, 1), ("spin collinear\nfixed_spin_moment 2\n", 0, 2)],
)
def test_charge_and_spin_are_honoured(tmp_path: Path, control: str, charge: int, uhf: int) -> None:
    atoms = rattled(molecule("H2O"))
    write(tmp_path, atoms, FORCES + control)
    result = read_result(run(tmp_path))
    energy = direct(atoms, charge, uhf).get("energy") * Hartree
    assert result.energy == pytest.approx(energy, abs=1e-6)
    assert result.stress is None


def test_initial_moments_make_the_spin(tmp_path: Path) -> None:
    atoms = molecule("O2")
    atoms.set_initial_magnetic_moments([1, 1])
    write(tmp_path, atoms, f"{FORCES}spin collinear\n")
    triplet = direct(atoms, uhf=2).get("energy") * Hartree
    assert read_result(run(tmp_path)).energy == pytest.approx(triplet, abs=1e-6)


def test_emt_is_another_method(copper: Callable[..., AimsFiles]) -> None:
    result = read_result(copper())
    atoms = Atoms("Cu2", [(0, 0, 0), (2.3, 0.1, 0)], calculator=EMT())
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


KEY_LINES = [
    r"^          Begin self-consistency loop: Initialization\.$",
    r"^  \| Number of atoms                   : +\d+$",
    r"^  \| Number of spin channels           : +\d+$",
    r"^  The structure contains {8}\d atoms,  and a total of +[\d.]+ electrons\.$",
    r"^  \|    1: Species [A-Z][a-z]? {8,12}(?: +-?\d+\.\d{8}){3}$",
    r"^  \| Total energy                  : {8,}-?\d+\.\d{8} Ha +-?\d+\.\d{8} eV$",
    r"^  Self-consistency cycle converged\.$",
    r"^  \| Total energy uncorrected      : {8,9}[- ]?0\.\d{15}E[-+]\d\d eV$",
    r"^  \| Total energy corrected        : {8,9}[- ]?0\.\d{15}E[-+]\d\d eV  <-- do not rely",
    r"^  \| Electronic free energy        : {8,9}[- ]?0\.\d{15}E[-+]\d\d eV$",
    r"^  Total atomic forces \(unitary forces .*\[eV/Ang\]:$",
    r"^(?=.{101}$)  \|    1(?: +-?0\.\d{15}E[-+]\d\d){3}$",
    r"^          Have a nice day\.$",
]
STRESS_LINES = [
    r"^  \| {14}Analytical stress tensor - Symmetrized {15}\|$",
    r"^  \| {18}Cartesian components \[eV/A\*\*3\] {19}\|$",
    r"^(?=.{71}$)  \|  y  (?: +-?\d\.\d{8}){3} {11}\|$",
    r"^(?=.{71}$)  \|  Pressure: +-?\d\.\d{8}   \[eV/A\*\*3\] {27}\|$",
]


def test_its_lines_look_like_those_of_a_real_molecule(copper: Callable[..., AimsFiles]) -> None:
    real, ours = (REAL / "singlepoint.out").read_text(), copper().output
    for pattern in KEY_LINES:
        assert re.search(pattern, real, re.MULTILINE), pattern
        assert re.search(pattern, ours, re.MULTILINE), pattern


def test_its_lines_look_like_those_of_a_real_crystal(tmp_path: Path) -> None:
    write(tmp_path, bulk("Cu"), PERIODIC)
    real = (REAL / "relax.out").read_text()
    ours = run(tmp_path, AIMS_STAND_IN_METHOD="emt").output
    for pattern in KEY_LINES[6:] + STRESS_LINES:
        assert re.search(pattern, real, re.MULTILINE), pattern
        assert re.search(pattern, ours, re.MULTILINE), pattern


# What it refuses


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (f"{FORCES}k_gird 2 2 2\n", "k_gird"),
        ("compute_forces .true.\n", "xc"),
        (f"{FORCES}k_grid 2 2 2\n", "no lattice vectors"),
        (f"{FORCES}charge\n", "line: 'charge'"),
    ],
)
def test_wrong_control_is_refused_with_exit_code_zero(
    tmp_path: Path, control: str, words: str
) -> None:
    write(tmp_path, molecule("H2O"), control)
    files = run(tmp_path)
    assert files.exit_code == 0
    with pytest.raises(EngineError, match=words):
        read_result(files)


def test_a_crystal_without_k_grid_is_refused(tmp_path: Path) -> None:
    write(tmp_path, bulk("Si"), FORCES)
    with pytest.raises(EngineError, match="k-grid not specified"):
        read_result(run(tmp_path))


def test_an_element_without_species_is_refused(tmp_path: Path) -> None:
    write(tmp_path, molecule("H2O"), FORCES)
    (tmp_path / "control.in").write_text(FORCES + species(Atoms("H")))
    with pytest.raises(EngineError, match="Species O"):
        read_result(run(tmp_path))


# How it fails


@pytest.mark.parametrize(
    ("mode", "transient", "words"),
    [
        ("no-scf", False, "SCF did not converge"),
        ("no-scf-nice", False, "SCF did not converge"),
        ("die", True, "exit code 1"),
        ("segfault", True, "exit code -11, SIGSEGV"),
        ("oom", True, "out of memory"),
        ("truncate", True, "before its end"),
        ("empty", True, "empty"),
        ("disk-full", True, "disk"),
        ("node-fail", True, "node"),
        ("nan", True, "NaN"),
    ],
)
def test_a_failure_is_told_as_what_it_is(
    copper: Callable[..., AimsFiles], mode: str, transient: bool, words: str
) -> None:
    with pytest.raises(LabelError, match=words) as caught:
        read_result(copper(AIMS_STAND_IN=mode))
    assert caught.value.transient is transient


def test_wrong_input_on_request(copper: Callable[..., AimsFiles]) -> None:
    with pytest.raises(EngineError, match="k-grid"):
        read_result(copper(AIMS_STAND_IN="wrong-input"))


def test_it_can_explode(copper: Callable[..., AimsFiles]) -> None:
    exploded = read_result(copper(AIMS_STAND_IN="explode")).forces
    assert exploded == pytest.approx(1000 * read_result(copper()).forces)


def test_it_can_print_the_atoms_in_another_order(tmp_path: Path) -> None:
    write(tmp_path, molecule("H2O"), FORCES)
    result = read_result(run(tmp_path, AIMS_STAND_IN="reorder"))
    assert result.atoms.get_chemical_symbols() == ["H", "H", "O"]


def test_failures_come_at_every_nth_start_and_in_turn(
    copper: Callable[..., AimsFiles], tmp_path: Path
) -> None:
    codes = [
        copper(
            AIMS_STAND_IN="die,segfault",
            AIMS_STAND_IN_EVERY="2",
            AIMS_STAND_IN_COUNTER=str(tmp_path / "starts"),
        ).exit_code
        for _ in range(5)
    ]
    assert codes == [0, 1, 0, -signal.SIGSEGV, 0]


def test_when_it_hangs_a_child_of_it_hangs_too(tmp_path: Path) -> None:
    write(tmp_path, Atoms("Cu"), FORCES)
    settings = {"AIMS_STAND_IN": "hang", "AIMS_STAND_IN_METHOD": "emt"}
    with subprocess.Popen(
        [sys.executable, HERE / "stand_in.py"],
        cwd=tmp_path, env={**os.environ, **settings}, stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + 60
            while not psutil.Process(process.pid).children() and time.monotonic() < until:
                time.sleep(0.1)
            assert len(psutil.Process(process.pid).children()) == 1
        finally:
            os.killpg(process.pid, signal.SIGKILL)
