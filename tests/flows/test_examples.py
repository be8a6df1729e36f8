"""The examples: complete input directories that run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import ase.io
import pytest
from ase.calculators.tersoff import Tersoff

from aimspax_core.inputs.campaign_inputs import Inputs
from flows.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]


def folders() -> list[Path]:
    return sorted(path.parent for path in EXAMPLES.glob("*/aimsPAX.yaml"))


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_there_is_nothing_to_say_about_an_example(folder: Path) -> None:
    assert Inputs.read(folder).settings.notes == ()


@pytest.fixture(scope="module")
def silicon(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Path:
    """A finished run of the example of silicon."""
    run = tmp_path_factory.mktemp("examples") / "silicon"
    shutil.copytree(EXAMPLES / "silicon", run)
    done = subprocess.run(
        [*AIMSPAX, "run", str(run)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.fixture
def questions() -> ModuleType:
    """The example's own script."""
    found = importlib.util.spec_from_file_location(
        "equation_of_state", EXAMPLES / "silicon" / "equation_of_state.py"
    )
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_silicon_has_the_lattice_and_the_stiffness_of_its_reference(
    silicon: Path, questions: ModuleType
) -> None:
    from mace.calculators import MACECalculator

    reference = Tersoff.from_lammps(silicon / "Si.tersoff")
    model = MACECalculator(
        str(questions.converged_model(silicon)), device="cpu", default_dtype="float64"
    )
    (a, b), (a_reference, b_reference) = map(questions.equation_of_state, (model, reference))
    assert a == pytest.approx(a_reference, rel=0.01)
    assert b == pytest.approx(b_reference, rel=0.3)
    frames = ase.io.read(silicon / "trajectories" / "trajectory_0.extxyz", index=":")
    forces, stress = questions.misses(frames, model, reference)
    assert forces < 60 and stress < 0.5  # meV/Å, GPa; typical: 14 and 0.1


@pytest.mark.slow
def test_the_cell_of_silicon_changes_its_size_and_shape(silicon: Path) -> None:
    frames = ase.io.read(silicon / "trajectories" / "trajectory_0.extxyz", index=":")
    assert len({round(atoms.get_volume(), 3) for atoms in frames}) > 1
    assert len({round(atoms.cell.angles()[0], 3) for atoms in frames}) > 1
