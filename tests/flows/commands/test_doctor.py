"""`aimspax doctor`: healthy run directories, and each kind of sick one."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from tblite.ase import TBLite

from aimspax_core.labels.store import LabelStore
from flows.commands.doctor import doctor
from flows.commands.exit_codes import DONE, FAILED, USER, console
from flows.server import Server

AIMS = Path(__file__).parents[2] / "aims"
STAND_IN = f"{sys.executable} {shlex.quote(str(AIMS / 'stand_in.py'))} > aims.out"
PROJECT = """
REFERENCE: {reference}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  max_initial_epochs: 4
ACTIVE_LEARNING: {{num_trajectories: 3, max_train_set_size: 16}}
MD: {{stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}}
CLUSTER: {{type: local, max_workers: 1}}
MISC: {{path_to_geometry: geometry.xyz, output_dir: out}}
"""
MODEL = """
GENERAL: {name_exp: small, seed: 1}
"""
WRONG = """
from ase.calculators.emt import EMT

class Wrong(EMT):
    def calculate(self, *arguments, **named):
        super().calculate(*arguments, **named)
        self.results["forces"] = -self.results["forces"]
"""
NOT_CONVERGED = """
from ase.calculators.calculator import SCFError
from ase.calculators.emt import EMT

class Stubborn(EMT):
    def calculate(self, *arguments, **named):
        raise SCFError("60 cycles, and no end")
"""
TBLITE = "{engine: tblite}"


@dataclass
class Visit:
    """What the doctor said of a directory."""

    directory: Path
    code: int
    said: str

    def line(self, name: str) -> str:
        (line,) = [line for line in self.said.splitlines() if line[2:].startswith(name)]
        return line


def prepared(folder: Path, reference: str, atoms: Atoms, model: str = MODEL) -> Path:
    folder.mkdir()
    project = PROJECT.format(reference=reference)
    (folder / "aimsPAX.yaml").write_text(project, encoding="utf-8")
    (folder / "mace.yaml").write_text(model, encoding="utf-8")
    (folder / "control.in").write_text("xc pbe\nspin none\n", encoding="utf-8")
    ase.io.write(folder / "geometry.xyz", atoms)
    return folder


def aims(line: str) -> str:
    return f"{{engine: aims, species_dir: {AIMS / 'species'}, launch_str: '{line}'}}"


def visit(directory: Path) -> Visit:
    with console.capture() as said:
        code = doctor(directory, {})
    return Visit(directory, code, said.get())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Visit:
    folder = tmp_path_factory.mktemp("healthy") / "run"
    return visit(prepared(folder, TBLITE, molecule("H2O")))


@pytest.mark.slow
def test_a_healthy_directory_passes_everything(healthy):
    marks = [line[0] for line in healthy.said.splitlines()]
    assert (healthy.code, marks) == (DONE, ["✓"] * 7)


@pytest.mark.slow
def test_the_label_of_the_start_geometry_is_in_the_store(healthy):
    folder = healthy.directory / "out" / "aimspax" / "labels"
    (key,) = (path.stem for path in folder.glob("*/*.json"))
    stored = LabelStore(folder).get(key)
    assert stored is not None
    by_hand = molecule("H2O")
    by_hand.calc = TBLite(verbosity=0)
    assert stored.label.energy == pytest.approx(by_hand.get_potential_energy(), abs=1e-6)


@pytest.mark.slow
def test_a_label_and_a_sampling_step_have_a_price(healthy):
    line = healthy.line("a label through the pool")
    assert "H2O took" in line
    assert "core-hours" in line
    # Three points for each of two members, each after five steps of MD.
    assert "has 6 labels and 30 steps of MD by the reference" in line


@pytest.mark.slow
def test_a_second_visit_says_that_the_label_was_there(healthy):
    again = visit(healthy.directory)
    assert again.code == DONE
    assert "it was in the label store, since" in again.line("a label through the pool")


@pytest.mark.slow
def test_nothing_is_left_that_a_campaign_would_stumble_over(healthy):
    left = {path.name for path in (healthy.directory / "out" / "aimspax").iterdir()}
    assert left == {"labels", "prefect-results"}


@pytest.mark.slow
def test_a_healthy_fhi_aims_passes_everything(tmp_path, prefect_server):
    seen = visit(prepared(tmp_path / "run", aims(STAND_IN), molecule("H2O")))
    assert (seen.code, [line[0] for line in seen.said.splitlines()]) == (DONE, ["✓"] * 7)


def test_a_broken_launch_line_is_told_in_the_shells_own_words(tmp_path, prefect_server):
    seen = visit(prepared(tmp_path / "run", aims("/nowhere/aims.x > aims.out"), molecule("H2O")))
    line = seen.line("a small calculation")
    assert (seen.code, line[0]) == (USER, "✗")
    assert "/nowhere/aims.x: No such file or directory" in line
    (folder,) = (tmp_path / "run").glob("**/calc/H2-*")
    assert str(folder) in line
    assert seen.line("a label through the pool").endswith("the small calculation failed")


def test_a_node_that_fails_is_a_failure_of_the_machine(tmp_path, prefect_server):
    line = 'echo "srun: error: Node failure on n7" >&2; exit 1'
    seen = visit(prepared(tmp_path / "run", aims(line.replace("'", "''")), molecule("H2O")))
    assert seen.code == FAILED
    assert "Node failure on n7" in seen.line("a small calculation")


def test_forces_of_the_wrong_sign_are_found(tmp_path, prefect_server, monkeypatch):
    (tmp_path / "wrong_sign.py").write_text(WRONG, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    reference = "{engine: ase, calculator: wrong_sign.Wrong}"
    seen = visit(prepared(tmp_path / "run", reference, molecule("H2O")))
    assert seen.code == USER
    assert "the sign is the other way round" in seen.line("a small calculation")


def test_what_a_users_calculator_complains_of_is_told(tmp_path, prefect_server, monkeypatch):
    (tmp_path / "stubborn.py").write_text(NOT_CONVERGED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    reference = "{engine: ase, calculator: stubborn.Stubborn}"
    seen = visit(prepared(tmp_path / "run", reference, molecule("H2O")))
    assert seen.code == USER
    assert "60 cycles, and no end" in seen.line("a small calculation")
    assert "Traceback" not in seen.said


@pytest.mark.slow
def test_of_a_crystal_the_stress_is_looked_at_too(tmp_path, prefect_server):
    model = MODEL.replace("seed: 1", "seed: 1, compute_stress: True")
    reference = "{engine: ase, calculator: ase.calculators.emt.EMT}"
    model += "TRAINING: {loss: universal}\n"
    seen = visit(prepared(tmp_path / "run", reference, bulk("Cu", cubic=True), model))
    line = seen.line("a small calculation")
    assert line[0] == "✓"
    assert "force" in line
    assert "stress" in line


def test_a_file_in_place_of_a_folder_is_found(tmp_path, prefect_server):
    directory = prepared(tmp_path / "run", aims("/nowhere/aims.x"), molecule("H2O"))
    (directory / "out").mkdir()
    (directory / "out" / "data").write_text("", encoding="utf-8")
    seen = visit(directory)
    assert seen.code == USER
    assert f"{directory / 'out' / 'data'} is a file" in seen.line("folders")


def test_a_full_disk_is_found(tmp_path, prefect_server, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 * 10**8))
    seen = visit(prepared(tmp_path / "run", aims("/nowhere/aims.x"), molecule("H2O")))
    assert seen.line("folders").startswith("✗")
    assert "0.5 GB left" in seen.line("folders")


def test_a_server_that_does_not_answer_is_a_failure_of_the_machine(tmp_path, monkeypatch):
    address = "http://127.0.0.1:1/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    monkeypatch.setenv("AIMSPAX_SERVER_URL", "")
    seen = visit(prepared(tmp_path / "run", TBLITE, molecule("H2O")))
    assert seen.code == FAILED
    assert f"the Prefect server at {address} cannot be used" in seen.said
    assert seen.line("a small calculation").startswith("✓")
    assert seen.line("a label through the pool").endswith("there is no server")


def test_mistakes_in_the_settings_are_all_that_is_told(tmp_path):
    directory = prepared(tmp_path / "run", "{engine: tblite, methode: GFN2-xTB}", molecule("H2O"))
    seen = visit(directory)
    assert seen.code == USER
    assert "REFERENCE.methode" in seen.said
    assert "Prefect" not in seen.said
