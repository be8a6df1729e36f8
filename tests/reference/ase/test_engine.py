"""Any ASE calculator as reference: ASE's own, and modules that a user wrote."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tblib.pickling_support
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.espresso import EspressoProfile
from ase.calculators.fd import calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.calculators.tersoff import Tersoff
from ase.md.verlet import VelocityVerlet

from aimspax_core.errors import LabelError, LabelFailure, SettingsError
from aimspax_core.labels.gate import check_label
from aimspax_core.reference.ase import engine as ase_engine
from aimspax_core.reference.ase.arguments import Arguments
from aimspax_core.reference.ase.checks import structure_refused, usable
from aimspax_core.reference.ase.engine import AseEngine
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.settings.engines import Gate
from aimspax_core.structures import digest, encode

EMT_PATH = "ase.calculators.emt.EMT"
LJ_PATH = "ase.calculators.lj.LennardJones"
TERSOFF_PATH = "ase.calculators.tersoff.Tersoff.from_lammps"
SI_TERSOFF = (  # Tersoff, doi:10.1103/PhysRevB.38.9902, in LAMMPS's format
    "Si Si Si 3.0 1.0 0.0 100390.0 16.217 -0.59825 0.78734 1.1e-6 1.73222 471.18 2.85 0.15 2.4799 "
    "1830.8\n"
)


def settings(calculator: str, version: str = "", **arguments: Any) -> AseReference:
    return AseReference(engine="ase", calculator=calculator, arguments=arguments, version=version)


def engine(calculator: str, folder: Path = Path("/"), /, **arguments: Any) -> AseEngine:
    return AseEngine(settings(calculator, **arguments), folder)


def strained(name: str = "Cu", seed: int = 1) -> Atoms:
    """A crystal whose stress has six different numbers."""
    atoms = bulk(name, cubic=True)
    atoms.rattle(0.05, seed=seed)
    strain = np.array([[0.01, 0.02, 0.0], [0.0, -0.01, 0.01], [0.0, 0.0, 0.03]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a user's module where Python finds it; return its name, which no other has."""

    def write(source: str) -> str:
        name = f"users_own_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


# What a label is


@pytest.mark.key("AseReference", "calculator")
def test_labels_are_the_calculators_own() -> None:
    atoms = strained()
    found = engine(EMT_PATH).label(atoms)
    atoms.calc = EMT()
    assert found.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(found.forces, atoms.get_forces())
    np.testing.assert_array_equal(found.stress, atoms.get_stress(voigt=False))


@pytest.mark.key("AseReference", "arguments")
def test_arguments_reach_the_calculator() -> None:
    atoms = strained()
    found = engine(LJ_PATH, epsilon=0.3, sigma=2.4).label(atoms)
    atoms.calc = LennardJones(epsilon=0.3, sigma=2.4)
    assert found.energy == atoms.get_potential_energy()


def test_a_classmethod_may_make_the_calculator(tmp_path: Path) -> None:
    file = tmp_path / "Si.tersoff"
    file.write_text(SI_TERSOFF, encoding="utf-8")
    atoms = strained("Si")
    found = engine(TERSOFF_PATH, tmp_path, potential_file="Si.tersoff").label(atoms)
    atoms.calc = Tersoff.from_lammps(file)
    assert found.energy == atoms.get_potential_energy()


def test_a_users_function_may_make_the_calculator(module: Callable[[str], str]) -> None:
    name = module(
        "from ase.calculators.emt import EMT\ndef made(**given):\n    return EMT(**given)"
    )
    atoms = strained()
    assert engine(f"{name}.made").label(atoms).energy == engine(EMT_PATH).label(atoms).energy


def test_stress_is_the_slope_of_the_energy_in_strain() -> None:
    """ASE's sign and units: eV/Å³, positive where the crystal pulls inwards."""
    atoms = strained()
    found = engine(EMT_PATH).label(atoms).stress
    atoms.calc = engine(EMT_PATH).calculator()
    expected = calculate_numerical_stress(atoms, eps=1e-5, voigt=False, force_consistent=False)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert len(set(np.abs(found).round(6).ravel())) == 6


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_only_what_is_periodic_in_three_directions_has_a_stress(pbc: Any) -> None:
    atoms = strained()
    atoms.pbc = pbc
    assert engine(EMT_PATH).label(atoms).stress is None


STRESSLESS = """
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
class Stressless(Calculator):
    implemented_properties = {known}
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = dict(energy=1.0, forces=np.zeros((len(atoms), 3)))
"""


@pytest.mark.parametrize("known", [["energy", "forces"], ["energy", "forces", "stress"]])
def test_a_calculator_without_stress_labels_without(
    module: Callable[[str], str], known: list[str]
) -> None:
    """Whether it says so, or names stress and then gives none."""
    found = engine(f"{module(STRESSLESS.format(known=known))}.Stressless").label(bulk("Cu"))
    assert found.stress is None


def test_a_calculator_that_gives_no_forces_is_told(module: Callable[[str], str]) -> None:
    source = STRESSLESS.format(known=["energy", "forces"]).replace("forces=", "forced=")
    with pytest.raises(LabelError, match=r"Stressless failed on Cu: .*it gave no forces") as found:
        engine(f"{module(source)}.Stressless").label(bulk("Cu"))
    assert not found.value.transient


@pytest.mark.parametrize(
    "forces", ["np.ones((1, 3), complex)", "[['0.1'] * 3]", "[[1, 2, 3], [4]]"]
)
def test_forces_that_are_no_real_numbers_are_told(
    module: Callable[[str], str], forces: str
) -> None:
    source = STRESSLESS.format(known=["energy", "forces"])
    source = source.replace("np.zeros((len(atoms), 3))", forces)
    with pytest.raises(LabelError, match="forces") as found:
        engine(f"{module(source)}.Stressless").label(bulk("Cu"))
    assert not found.value.transient


SPINFUL = """
from ase.calculators.lj import LennardJones
class Spinful(LennardJones):
    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        seen = [*atoms.get_initial_magnetic_moments(), *atoms.get_initial_charges()]
        self.results["energy"] = 1000 * sum(seen) + 10 * atoms.info["charge"] + atoms.info["spin"]
"""


def test_charge_spin_and_moments_reach_the_calculator(module: Callable[[str], str]) -> None:
    atoms = molecule("O2")
    atoms.set_initial_magnetic_moments([1.5, 0.5])
    atoms.set_initial_charges([0.25, 0.75])
    atoms.info.update(charge=2, spin=3)
    used = engine(f"{module(SPINFUL)}.Spinful")
    assert used.label(atoms).energy == 3023.0
    atoms.calc = used.calculator()
    assert atoms.get_potential_energy() == 3023.0


def test_the_structure_is_left_as_it_was() -> None:
    atoms = strained()
    before = atoms.copy()
    engine(EMT_PATH).label(atoms)
    assert atoms == before
    assert atoms.calc is None


def test_provenance_says_what_it_was() -> None:
    provenance = engine(EMT_PATH).label(strained()).provenance
    assert (provenance["engine"], provenance["calculator"]) == ("ase", EMT_PATH)
    assert provenance["ase"]
    assert provenance["wall_s"] > 0


# Independence

REMEMBERING = """
from ase.calculators.lj import LennardJones
made = []
class Remembering(LennardJones):
    before = 0
    def __init__(self):
        super().__init__()
        made.append(self)
    def reset(self):
        super().reset()
        self.before = 0
    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        self.before += 1
        self.results["energy"] += self.before
"""


@pytest.mark.parametrize(("slow_s", "made"), [(60.0, 3), (0.0, 1)])
def test_a_calculator_is_fresh_or_reset_for_every_label(
    module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, slow_s: float, made: int
) -> None:
    """What is slow to make is made once."""
    monkeypatch.setattr(ase_engine, "_SLOW_S", slow_s)
    name = module(REMEMBERING)
    used = engine(f"{name}.Remembering")
    energies = {used.label(strained()).energy for _ in range(3)}
    assert len(energies) == 1
    assert len(sys.modules[name].made) == made


def test_what_has_failed_is_not_used_again(
    module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ase_engine, "_SLOW_S", 0.0)
    name = module(REMEMBERING)
    used = engine(f"{name}.Remembering")
    used.label(strained())
    sys.modules[name].made[0].calculate = None
    with pytest.raises(LabelError):
        used.label(strained())
    used.label(strained())
    assert len(sys.modules[name].made) == 2


def test_md_that_is_cut_goes_the_same_way() -> None:
    """EMT keeps its neighbour list between steps, which would change the last digits."""
    used = engine(EMT_PATH)

    def run(atoms: Atoms, steps: int) -> Atoms:
        atoms.calc = used.calculator()
        VelocityVerlet(atoms, 2 * units.fs).run(steps)
        return atoms

    whole = run(strained(), 20)
    cut = run(run(strained(), 10), 10)
    np.testing.assert_array_equal(whole.positions, cut.positions)


def test_its_calculator_drives_the_same_method() -> None:
    atoms, used = strained(), engine(EMT_PATH)
    label = used.label(atoms)
    atoms.calc = used.calculator()
    assert atoms.get_potential_energy() == label.energy
    np.testing.assert_array_equal(atoms.get_forces(), label.forces)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), label.stress)


# Identity


def test_the_version_of_the_package_counts() -> None:
    import ase

    assert engine(EMT_PATH).identity()["provider"] == {"ase": ase.__version__}
    assert set(engine("tblite.ase.TBLite").identity()["provider"]) == {"tblite"}


@pytest.mark.key("AseReference", "version")
def test_the_users_version_counts() -> None:
    one, two = (AseEngine(settings(EMT_PATH, v), Path("/")) for v in ("1", "2"))
    assert one.identity() != two.identity()


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    """Moving the run directory, or naming the file another way, changes no key."""
    identities = []
    for folder in (tmp_path / "a", tmp_path / "moved"):
        folder.mkdir()
        (folder / "Si.tersoff").write_text(SI_TERSOFF, encoding="utf-8")
        identities += [
            engine(TERSOFF_PATH, folder, potential_file=text).identity()
            for text in ("Si.tersoff", str(folder / "Si.tersoff"))
        ]
    assert identities == identities[:1] * 4
    (folder / "Si.tersoff").write_text(SI_TERSOFF.replace("2.85", "2.80"), encoding="utf-8")
    assert engine(TERSOFF_PATH, folder, potential_file="Si.tersoff").identity() not in identities


def test_a_file_may_lie_at_home_and_deep_in_the_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Callable[[str], str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Si.upf").write_text("pseudo", encoding="utf-8")
    name = module(
        "from ase.calculators.emt import EMT\n"
        "def made(**given):\n    global seen\n    seen = given\n    return EMT()"
    )
    used = engine(f"{name}.made", tmp_path, files={"Si": ["~/Si.upf", "no.upf", "~no_one/x", ""]})
    used.label(strained())
    expected = {"Si": [str(tmp_path / "Si.upf"), "no.upf", "~no_one/x", ""]}
    assert sys.modules[name].seen == {"files": expected}
    assert str(tmp_path) not in str(used.identity())


def test_identities_are_json_whatever_yaml_gave(tmp_path: Path) -> None:
    used = engine(LJ_PATH, tmp_path, odd={1: float("inf"), "a": (1, None)}, long="x" * 5000)
    assert json.loads(json.dumps(used.identity())) == used.identity()
    assert digest(used.identity())


def test_the_source_of_a_module_without_a_package_counts(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    name = module("from ase.calculators.emt import EMT as Mine")
    before = engine(f"{name}.Mine").identity()
    (tmp_path / f"{name}.py").write_text("from ase.calculators.lj import LennardJones as Mine")
    assert engine(f"{name}.Mine").identity() != before


def test_a_file_that_was_replaced_does_not_label_under_the_old_key(tmp_path: Path) -> None:
    file = tmp_path / "Si.tersoff"
    file.write_text(SI_TERSOFF, encoding="utf-8")
    begun = engine(TERSOFF_PATH, tmp_path, potential_file="Si.tersoff")
    file.touch()
    begun.label(strained("Si"))
    file.write_text(SI_TERSOFF + "# new\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="was replaced"):
        begun.label(strained("Si"))


# Failures


def test_elements_that_it_does_not_know_are_told_in_its_own_words() -> None:
    with pytest.raises(LabelError, match=r"EMT failed on ClNa: .*No EMT-potential for Na") as found:
        engine(EMT_PATH).label(bulk("NaCl", "rocksalt", a=5.6))
    assert not found.value.transient


def test_even_an_unknown_element_that_ends_an_iteration_is_told(tmp_path: Path) -> None:
    """Tersoff lets a StopIteration out, which the loop of an MD run would take for its end."""
    (tmp_path / "Si.tersoff").write_text(SI_TERSOFF, encoding="utf-8")
    used = engine(TERSOFF_PATH, tmp_path, potential_file="Si.tersoff")
    with pytest.raises(LabelError, match="from_lammps failed on C2"):
        used.label(bulk("C"))
    atoms = bulk("C")
    atoms.calc = used.calculator()
    with pytest.raises(CalculationFailed, match="from_lammps failed on C2"):
        atoms.get_forces()


FAILING = """
import subprocess
from ase.calculators.calculator import *
from ase.calculators.emt import EMT
class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")
class Failing(EMT):
    def __init__(self, error):
        super().__init__()
        self.error = error
    def calculate(self, *args, **kwargs):
        raise eval(self.error)
"""


@pytest.mark.parametrize(
    ("error", "transient", "text"),
    [
        ("SCFError('no convergence')", False, "SCFError: no convergence"),
        ("CalculationFailed('two\\n lines')", False, "CalculationFailed: two lines"),
        ("CalculatorError('x')", False, "x"),
        ("KeyError('Zn')", False, "KeyError: Zn"),
        ("ValueError('bad cell')", False, "bad cell"),
        ("Odd(1, 2)", False, "Odd: odd"),
        ("ReadError('no output')", True, "no output"),
        ("OSError('disk full')", True, "disk full"),
        ("subprocess.CalledProcessError(1, 'srun')", True, "'srun' returned non-zero"),
        ("subprocess.TimeoutExpired('srun', 5)", True, "timed out"),
        ("MemoryError()", True, "MemoryError"),
    ],
)
def test_only_what_the_world_did_is_transient(
    module: Callable[[str], str], error: str, transient: bool, text: str
) -> None:
    with pytest.raises(LabelError, match=text) as found:
        engine(f"{module(FAILING)}.Failing", error=error).label(strained())
    assert found.value.transient is transient
    assert (found.value.kind is LabelFailure.SCF) == error.startswith("SCFError")
    tblib.pickling_support.install()  # as Dask's workers may have it: causes are pickled too
    back = pickle.loads(pickle.dumps(found.value))
    assert (str(back), back.transient) == (str(found.value), transient)


# Files that a calculator writes

WRITING = """
import time
from pathlib import Path
import numpy as np
from ase.calculators.calculator import FileIOCalculator
class Writing(FileIOCalculator):
    implemented_properties = ["energy", "forces"]
    name = "writing"
    def __init__(self, **given):
        super().__init__(command="sleep 0.05; cp in.txt out.txt; pwd > where.txt", **given)
    def write_input(self, atoms, properties=None, system_changes=None):
        super().write_input(atoms, properties, system_changes)
        Path(self.directory, "in.txt").write_text(str(atoms.positions[0, 0]))
    def read_results(self):
        energy = float(Path(self.directory, "out.txt").read_text())
        where = Path(self.directory, "where.txt").read_text().strip()
        self.results = dict(energy=energy, forces=np.zeros((1, 3)))
        with open("{log}", "a") as log:
            log.write(where + "\\n")
"""


def test_calculations_at_the_same_time_do_not_share_files(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    log = tmp_path / "log"
    used = engine(f"{module(WRITING.replace('{log}', str(log)))}.Writing", tmp_path, directory="s")
    energies: dict[int, float] = {}

    def label(number: int) -> None:
        energies[number] = used.label(Atoms("H", [[number, 0, 0]])).energy

    threads = [threading.Thread(target=label, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert energies == {n: float(n) for n in range(4)}
    folders = {Path(line) for line in log.read_text().split()}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "s"}
    assert not [*here.iterdir(), *(tmp_path / "s").iterdir()]


PROGRAM = """
from pathlib import Path
import numpy as np
from ase import Atoms
from ase.calculators.calculator import FileIOCalculator
class Program(FileIOCalculator):
    implemented_properties = ["energy", "forces"]
    name = "program"
    default_parameters = dict(print="", exit=0, back=None)
    def execute(self):
        Path(self.directory, "program.out").write_text(self.parameters.print)
        super().execute()
    def write_input(self, atoms, properties=None, system_changes=None):
        super().write_input(atoms, properties, system_changes)
        self.profile.command = f"exit {self.parameters.exit}"
    def read_results(self):
        if self.parameters.back == "reversed":
            self.atoms = self.atoms[::-1]
        if self.parameters.back == "moved":
            self.atoms.positions += [0.01, 0, 0]
        self.results = dict(energy=1.0, forces=np.zeros((len(self.atoms), 3)))
"""


def program(module: Callable[[str], str], folder: Path, **settings_of: Any) -> AseEngine:
    """A calculator that prints what it is told to, and whose program ends as it is told to."""
    keys = {key: settings_of.pop(key) for key in ("calc_dir", "clean_dirs") if key in settings_of}
    path = f"{module(PROGRAM)}.Program"
    arguments = {"command": "true", **settings_of}
    return AseEngine(
        AseReference(engine="ase", calculator=path, arguments=arguments, **keys), folder
    )


@pytest.mark.key("AseReference", "clean_dirs")
def test_the_folder_of_a_good_calculation_is_removed(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    program(module, tmp_path).label(molecule("H2O"))
    assert not [*(tmp_path / "calc").iterdir()]


@pytest.mark.key("AseReference", "calc_dir")
def test_the_folder_of_a_good_calculation_stays_if_asked_for(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    atoms = molecule("H2O")
    program(module, tmp_path, calc_dir="kept", clean_dirs=False, print="hello").label(atoms)
    (folder,) = (tmp_path / "kept").iterdir()
    assert folder.name.startswith(f"H2O-{digest(encode(atoms))[:8]}-")
    assert (folder / "program.out").read_text() == "hello"


def test_the_folder_of_a_failed_calculation_stays_and_tells_why(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="with error code 3") as found:
        program(module, tmp_path, print="half a line", exit=3).label(molecule("H2O"))
    (folder,) = (tmp_path / "calc").iterdir()
    assert (folder / "program.out").read_text() == "half a line"
    assert "error code 3" in (folder / "failed.txt").read_text()
    assert str(folder) in str(found.value)


def test_a_program_that_ends_in_an_error_is_tried_again(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(LabelError) as found:
        program(module, tmp_path, exit=1).label(molecule("H2O"))
    assert found.value.transient


SAYS = {
    "Quantum ESPRESSO": "     convergence NOT achieved after   3 iterations: stopping",
    "Quantum ESPRESSO told to go on": "   scf_must_converge = .false.",
    "CP2K": " *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***",
    "NWChem": "      Calculation failed to converge",
    "ORCA": "               *    SCF NOT CONVERGED AFTER 125 CYCLES     *",
    "ORCA's energy": "FINAL SINGLE POINT ENERGY  -76.3 (Wavefunction not fully converged!)",
    "DFTB+": "-> SCC is NOT converged, maximal SCC iterations exceeded",
    "Gaussian": " Convergence failure -- run terminated.",
}


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("said", SAYS.values(), ids=SAYS)
def test_what_has_not_converged_is_dropped_however_the_program_ends(
    module: Callable[[str], str], tmp_path: Path, said: str, status: int
) -> None:
    used = program(module, tmp_path, print=f"begin\n{said}\nend\n", exit=status)
    with pytest.raises(LabelError, match=r"SCFError: program\.out: ") as found:
        used.label(molecule("H2O"))
    assert not found.value.transient
    assert " ".join(said.strip(" *").split()) in str(found.value)


def test_what_a_calculator_knows_of_convergence_counts(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """VASP's reads it from OUTCAR, and gives energy and forces all the same."""
    used = AseEngine(
        settings(f"{module(PROGRAM + '    converged = False')}.Program", command="true"), tmp_path
    )
    with pytest.raises(LabelError, match="it has not converged") as found:
        used.label(molecule("H2O"))
    assert not found.value.transient


def test_binary_files_say_nothing_of_convergence(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    said = f"\0\0{SAYS['CP2K']}"
    assert program(module, tmp_path, print=said).label(molecule("H2O")).energy == 1.0


@pytest.mark.parametrize(
    ("back", "text"), [("reversed", "another order"), ("moved", r"moved: atom \d is 0.010 Å off")]
)
def test_an_answer_for_another_structure_does_not_pass_the_gate(
    module: Callable[[str], str], tmp_path: Path, back: str, text: str
) -> None:
    atoms = molecule("HCN")
    found = program(module, tmp_path, back=back).label(atoms)
    with pytest.raises(LabelError, match=text):
        check_label(atoms, found, Gate())


@pytest.mark.parametrize("command", ["./run.sh > out", "sh ./run.sh '>' out", "env A=./run.sh"])
def test_a_command_may_name_a_file_of_the_run_directory(tmp_path: Path, command: str) -> None:
    (tmp_path / "run.sh").write_text("echo", encoding="utf-8")
    read = Arguments.read({"command": command}, tmp_path)
    assert read.values["command"] == command.replace("./run.sh", str(tmp_path / "run.sh"))
    assert not read.files


def test_how_a_calculation_is_launched_changes_no_key(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    one = program(module, tmp_path, command="srun -n 4 code", calc_dir="a")
    two = AseEngine(
        AseReference(
            engine="ase",
            calculator=one.identity()["calculator"],
            arguments={"command": "mpirun code"},
            clean_dirs=False,
        ),
        tmp_path,
    )
    assert one.identity() == two.identity()


# Folders and objects in the arguments

ESPRESSO = "ase.calculators.espresso.Espresso"
PROFILE = "ase.calculators.espresso.EspressoProfile"


def espresso(folder: Path, command: str = "pw.x", pseudo_dir: str = "pp") -> AseEngine:
    given = {"command": command, "pseudo_dir": pseudo_dir}
    profile = {"import": PROFILE, "arguments": given}
    return engine(ESPRESSO, folder, profile=profile, pseudopotentials={"Si": "Si.upf"})


def test_a_file_counts_that_is_named_beside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "pp").mkdir()
    (tmp_path / "pp" / "Si.upf").write_text("one", encoding="utf-8")
    before = espresso(tmp_path).identity()
    assert before["arguments"]["pseudopotentials"]["Si"]["sha256"]
    (tmp_path / "pp" / "Ge.upf").write_text("of another element", encoding="utf-8")
    assert espresso(tmp_path, command="mpirun pw.x").identity() == before
    (tmp_path / "pp" / "Si.upf").write_text("two", encoding="utf-8")
    assert espresso(tmp_path).identity() != before


def test_a_file_beside_its_folder_that_was_replaced_is_told(tmp_path: Path) -> None:
    (tmp_path / "pp").mkdir()
    (tmp_path / "pp" / "Si.upf").write_text("one", encoding="utf-8")
    begun = espresso(tmp_path)
    (tmp_path / "pp" / "Si.upf").write_text("another", encoding="utf-8")
    with pytest.raises(SettingsError, match="was replaced"):
        begun.label(bulk("Si"))


@pytest.mark.parametrize(
    ("arguments", "absolute"),
    [
        ({"pseudo_dir": "pbe"}, True),
        ({"pp_paths": ["pbe"]}, True),
        ({"basis": "./pbe"}, True),
        ({"xc": "pbe"}, False),
        ({"xc": "PBE/pbe"}, False),
        ({"directory": "pbe"}, False),
    ],
)
def test_what_is_meant_as_a_folder_is_given_whole(
    tmp_path: Path, arguments: dict[str, Any], absolute: bool
) -> None:
    (tmp_path / "pbe").mkdir()
    read = Arguments.read(arguments, tmp_path)
    expected = [str(tmp_path / "pbe")] if "pp_paths" in arguments else str(tmp_path / "pbe")
    (key,) = arguments
    assert read.values[key] == (expected if absolute else arguments[key])
    assert read.identity == arguments


def test_objects_are_made_anew_for_each_calculator(tmp_path: Path) -> None:
    (tmp_path / "pp").mkdir()
    profile = {"import": PROFILE, "arguments": {"command": "pw.x", "pseudo_dir": "pp"}}
    read = Arguments.read({"profile": profile}, tmp_path)
    one, two = read.made()["profile"], read.made()["profile"]
    assert isinstance(one, EspressoProfile)
    assert one is not two
    assert one.pseudo_dir == str(tmp_path / "pp")


def test_the_provider_of_an_object_counts(module: Callable[[str], str]) -> None:
    name = module("Thing = dict")
    used = engine(f"{EMT_PATH}", Path("/"), thing={"import": f"{name}.Thing"})
    assert name in used.identity()["provider"]


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ({"import": "ase.calculators.espreso.X"}, "profile: found 'ase.calculators.espreso.X'"),
        ({"import": PROFILE.replace("Pro", "pro")}, "did you mean EspressoProfile?"),
        ({"import": PROFILE, "arguments": {"command": "pw.x"}}, "required argument: 'pseudo_dir'"),
        ({"import": PROFILE, "argument": {}}, "no key argument; did you mean arguments?"),
        ({"import": 3}, "profile.import: found 3; allowed: an import path"),
        ({"import": PROFILE, "arguments": [1]}, "profile.arguments: found [1]; allowed: keyword"),
        ({"import": "ase.calculators.orca.OrcaProfile", "arguments": {"comand": "orca"}},
         "profile: ase.calculators.orca.OrcaProfile takes no comand; did you mean command?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_object_is_told(profile: dict[str, Any], text: str) -> None:
    found = usable(settings(ESPRESSO, profile=profile), Path("/"))
    assert found is not None
    assert found.startswith("arguments: profile")
    assert text in found


def test_a_stress_that_is_switched_off_is_no_stress(module: Callable[[str], str]) -> None:
    """CP2K's calculator would give zeros for it."""
    source = STRESSLESS.format(known=["energy", "forces", "stress"])
    path = f"{module(source + '    default_parameters = dict(stress_tensor=True)')}.Stressless"
    assert usable(settings(path), Path("/"), stress=True) is None
    found = usable(settings(path, stress_tensor=False), Path("/"), stress=True)
    assert found == f"calculator: {path} does not compute stress"


# The check before launch


@pytest.mark.parametrize(
    ("calculator", "text"),
    [
        ("asee.calculators.emt.EMT", "there is no module asee; did you mean ase?"),
        ("ase.calculators.emtt.EMT", "the package ase.calculators has no emtt; did you mean emt?"),
        ("ase.calculators.emt.ETM", "the module ase.calculators.emt has no ETM; did you mean EMT?"),
        (f"{LJ_PATH}.from_lammps", f"the class {LJ_PATH} has no from_lammps"),
        ("no_such_thing.Mine", "no module no_such_thing; a module of your own must be installed"),
        ("ase.units.kB", "not a class or function but a float"),
        ("ase.build.molecule", "missing a required argument: 'name'"),
        ("ase.calculators.tip3p.TIP3P", None),
    ],
)
def test_a_path_that_names_nothing_is_told_with_the_nearest_name(
    calculator: str, text: str | None
) -> None:
    found = usable(settings(calculator), Path("/"))
    assert (found is None) if text is None else (text in (found or ""))


@pytest.mark.parametrize(
    ("calculator", "arguments", "text"),
    [
        ("ase.calculators.qmmm.SimpleQMMM", {"selektion": 1}, "no selektion; did you mean selecti"),
        (LJ_PATH, {"sigmaa": 2.0}, "has no sigmaa; did you mean sigma?"),
        (TERSOFF_PATH, {}, "missing a required argument: 'potential_file'"),
        (TERSOFF_PATH, {"potential_file": "no"}, "cannot be made with these: FileNotFoundError"),
    ],
)
def test_arguments_that_do_not_fit_are_told(
    calculator: str, arguments: dict[str, Any], text: str
) -> None:
    found = usable(settings(calculator, **arguments), Path("/"))
    assert found is not None
    assert found.startswith("arguments: ")
    assert text in found
    assert "\n" not in found


def test_what_is_no_calculator_is_told() -> None:
    found = usable(settings("ase.build.molecule", name="H2O"), Path("/"))
    assert found == "calculator: ase.build.molecule is no ASE calculator but Atoms"


@pytest.mark.parametrize("missing", ["forces", "energy"])
def test_energy_and_forces_must_be_implemented(module: Callable[[str], str], missing: str) -> None:
    known = [name for name in ("energy", "forces", "stress") if name != missing]
    path = f"{module(STRESSLESS.format(known=known))}.Stressless"
    assert usable(settings(path), Path("/")) == f"calculator: {path} does not compute {missing}"


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def made(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_cause(
    module: Callable[[str], str], source: str, cause: str
) -> None:
    name = module(source)
    found = usable(settings(f"{name}.made"), Path("/"))
    assert found is not None
    assert f"importing {name} fails: {cause}" in found
    with pytest.raises(SettingsError, match="fails"):
        AseEngine(settings(f"{name}.made"), Path("/"))


def test_file_names_begin_in_the_run_directory(tmp_path: Path) -> None:
    (tmp_path / "Si.tersoff").write_text(SI_TERSOFF, encoding="utf-8")
    assert usable(settings(TERSOFF_PATH, potential_file="Si.tersoff"), tmp_path) is None


def test_an_engine_is_made_once_though_arguments_have_no_hash(tmp_path: Path) -> None:
    one = build_reference(settings(LJ_PATH, epsilon=1), tmp_path)
    assert isinstance(one, AseEngine)
    assert build_reference(settings(LJ_PATH, epsilon=1), tmp_path) is one
    assert build_reference(settings(LJ_PATH, epsilon=2), tmp_path) is not one


# What is asked before anything is launched


@pytest.mark.parametrize(
    ("calculator", "arguments"),
    [
        ("ase.calculators.lammpsrun.LAMMPS", {"command": "touch ran"}),
        (
            "ase.calculators.mixing.SumCalculator",
            {
                "calcs": [
                    {"import": EMT_PATH},
                    {
                        "import": "ase.calculators.dftb.Dftb",
                        "arguments": {"command": "touch ran", "slako_dir": "./"},
                    },
                ]
            },
        ),
        (
            "ase.calculators.subprocesscalculator.NamedPackedCalculator",
            {"name": "emt", "kwargs": {}},
        ),
    ],
)
def test_checks_run_no_program(
    calculator: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert structure_refused(settings(calculator, **arguments), tmp_path, bulk("Cu")) is None
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("calculator", "stranger"), [(EMT_PATH, "Fe"), ("ase.calculators.tip3p.TIP3P", "Cu")]
)
def test_checks_ask_what_computes_here_by_formulas(calculator: str, stranger: str) -> None:
    refused = structure_refused(settings(calculator), Path("/"), bulk(stranger))
    assert refused is not None
    assert refused.startswith("calculator: ")
