"""`aimspax atomic-energies`: real labels through Prefect, against tblite called by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ruamel.yaml import YAML
from tblite.ase import TBLite

from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
from flows.commands.atomic_energies import FILE, NEXT, atomic_energies
from flows.commands.exit_codes import DONE, USER, console
from flows.server import Server

PROJECT = """
REFERENCE: {engine: tblite, method: GFN1-xTB}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 3, ensemble_size: 2, max_initial_epochs: 4}
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
GATE: {max_force: 80}
CLUSTER: {type: local, max_workers: 1}
MISC: {path_to_geometry: geometry.xyz, output_dir: out}
"""
MODEL = """
GENERAL: {name_exp: methanol, seed: 1}
"""


CELLED = """
from ase.calculators.emt import EMT

class Celled(EMT):
    def calculate(self, atoms, *arguments):
        assert atoms.pbc.all(), "there is no cell"
        super().calculate(atoms, *arguments)
"""


def prepared(folder: Path, model: str = MODEL, project: str = PROJECT) -> Path:
    folder.mkdir()
    (folder / "aimsPAX.yaml").write_text(project, encoding="utf-8")
    (folder / "mace.yaml").write_text(model, encoding="utf-8")
    ase.io.write(folder / "geometry.xyz", molecule("CH3OH"))
    return folder


@dataclass
class Answer:
    """What the command gave."""

    directory: Path
    code: int
    said: str

    @property
    def energies(self) -> dict[int, float]:
        text = (self.directory / "out" / FILE).read_text(encoding="utf-8")
        return YAML(typ="safe").load(text)["ARCHITECTURE"]["atomic_energies"]


def asked(directory: Path, *elements: str) -> Answer:
    with console.capture() as said:
        code = atomic_energies(directory, {}, elements)
    return Answer(directory, code, said.get())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Answer:
    """The run's own elements, one of which mace.yaml has an energy of already."""
    model = MODEL + "ARCHITECTURE: {atomic_energies: {H: -13.6}}\n"
    return asked(prepared(tmp_path_factory.mktemp("own") / "run", model))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Answer:
    """Elements that were asked for; the SCF of manganese does not converge."""
    directory = prepared(tmp_path_factory.mktemp("others") / "run")
    return asked(directory, "N", "fe", "Mn")


def by_hand(symbol: str, multiplicity: int) -> float:
    atoms = Atoms(symbol)
    atoms.calc = TBLite(method="GFN1-xTB", multiplicity=multiplicity, verbosity=0)
    return float(atoms.get_potential_energy())


@pytest.mark.slow
@pytest.mark.parametrize(("symbol", "multiplicity"), [("H", 2), ("C", 3), ("O", 3)])
def test_atoms_of_the_run_are_computed_in_their_ground_states(own, symbol, multiplicity):
    number = Atoms(symbol).numbers[0]
    assert own.energies[number] == pytest.approx(by_hand(symbol, multiplicity), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("symbol", "multiplicity"), [("N", 4), ("Fe", 5)])
def test_other_elements_can_be_asked_for(others, symbol, multiplicity):
    number = Atoms(symbol).numbers[0]
    assert others.energies[number] == pytest.approx(by_hand(symbol, multiplicity), abs=1e-6)


@pytest.mark.slow
def test_what_is_printed_is_what_is_written(own):
    assert (own.directory / "out" / FILE).read_text(encoding="utf-8") in own.said


@pytest.mark.slow
def test_each_line_says_which_atom_in_which_state(own):
    (line,) = [line for line in own.said.splitlines() if line.lstrip().startswith("8:")]
    assert line.endswith("# O, triplet (2S+1 = 3)")
    assert "tblite GFN1-xTB" in own.said


@pytest.mark.slow
def test_all_elements_of_the_run_are_there_and_all_is_well(own):
    assert (own.code, sorted(own.energies)) == (DONE, [1, 6, 8])


@pytest.mark.slow
def test_the_lines_can_be_pasted_into_mace_yaml(own, tmp_path):
    lines = (own.directory / "out" / FILE).read_text(encoding="utf-8")
    directory = prepared(tmp_path / "pasted", MODEL + lines)
    assert load(directory).model.ARCHITECTURE.atomic_energies == own.energies


@pytest.mark.slow
def test_where_the_lines_go_and_when_is_said(own):
    assert NEXT in own.said


@pytest.mark.slow
def test_an_atom_that_fails_is_told_and_the_others_are_given(others):
    assert "✗ Mn: GFN1-xTB: SCF not converged" in others.said
    assert (others.code, sorted(others.energies)) == (USER, [7, 26])


@pytest.mark.slow
def test_labels_of_atoms_are_kept(own):
    assert len([*(own.directory / "out" / "aimspax" / "labels").glob("*/*.json")]) == 3


@pytest.mark.slow
def test_a_calculator_that_needs_a_cell_gets_one(tmp_path, prefect_server, monkeypatch):
    (tmp_path / "celled.py").write_text(CELLED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    project = PROJECT.replace(
        "{engine: tblite, method: GFN1-xTB}", "{engine: ase, calculator: celled.Celled}"
    )
    directory = prepared(tmp_path / "run", project=project)
    ase.io.write(directory / "geometry.xyz", bulk("Cu", cubic=True))
    answer = asked(directory)
    assert "whether celled.Celled heeds them is for you to know" in answer.said
    assert "without a cell it fails; once more in a large one" in answer.said
    alone = Atoms("Cu", calculator=EMT())
    assert answer.energies == {29: pytest.approx(alone.get_potential_energy())}


def test_what_is_no_element_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="--elements: found Xy; allowed: chemical symbols"):
        atomic_energies(prepared(tmp_path / "run"), {}, ["H", "Xy"])
