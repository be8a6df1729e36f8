"""The examples: complete input directories that run."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.tersoff import Tersoff

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.store import LabelStore
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.settings.families import so3krates
from aimspax_core.settings.load import load
from flows.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]


def folders() -> list[Path]:
    return sorted(path.parent for path in EXAMPLES.glob("*/aimsPAX.yaml"))


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_there_is_nothing_to_say_about_an_example(folder: Path) -> None:
    assert Inputs.read(folder).settings.notes == ()


@pytest.mark.parametrize(
    ("example", "installed"),
    [("aspirin", "'.[so3lr]'"), ("ethanol", "'.[pyscf]'"), ("silicon", "."), ("slab", ".")],
)
def test_make_demo_installs_what_its_example_needs(example: str, installed: str) -> None:
    asked = ["make", "-n", "demo", f"EXAMPLE={example}", "VENV=nowhere"]
    done = subprocess.run(asked, cwd=EXAMPLES.parent, capture_output=True, text=True, check=True)
    (pip,) = (line for line in done.stdout.splitlines() if " -e " in line)
    assert pip.endswith(f" -e {installed}")


@pytest.fixture
def aspirin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example of aspirin, where SO3LR's package is not installed."""
    monkeypatch.setattr(so3krates, "PACKAGE", "no_such_package")
    return Path(shutil.copytree(EXAMPLES / "aspirin", tmp_path / "aspirin"))


def test_aspirin_without_the_package_of_so3lr_is_refused_with_the_command_that_installs_it(
    aspirin: Path,
) -> None:
    with pytest.raises(SettingsError) as found:
        Inputs.read(aspirin)
    assert "INITIAL_DATASET_GENERATION.foundational_model: so3lr: " in str(found.value)
    assert so3krates.EXTRA in str(found.value)


def test_the_other_way_to_sample_aspirin_stands_in_its_file_and_needs_no_package(
    aspirin: Path,
) -> None:
    project = aspirin / "aimsPAX.yaml"
    lines = project.read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if "initial_sampling: foundational" in line)
    lines[first : first + 2] = []
    lines[first + 1 : first + 3] = [
        line.replace("# ", "", 1) for line in lines[first + 1 : first + 3]
    ]
    project.write_text("".join(lines))
    engine = Inputs.read(aspirin).settings.sampling_engine_of(0)
    assert engine is not None and engine.engine == "tblite"


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


@pytest.fixture(scope="module")
def slab(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Path:
    """A run of the slab, smaller, that was stopped while it explored, and taken up."""
    run = tmp_path_factory.mktemp("examples") / "slab"
    shutil.copytree(EXAMPLES / "slab", run)
    project = (run / "aimsPAX.yaml").read_text()
    smaller = {"max_initial_epochs": 10, "max_train_set_size": 8, "max_convergence_epochs": 2}
    for key, value in smaller.items():
        project = re.sub(rf"{key}: \d+", f"{key}: {value}", project)
    (run / "aimsPAX.yaml").write_text(project)
    command = [*AIMSPAX, "run", str(run)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert first.stdout is not None
    seen = []
    for line in first.stdout:
        seen.append(line)
        if "MD to step" in line:
            first.send_signal(signal.SIGINT)
            break
    first.communicate(timeout=300)
    assert first.returncode == 130, "".join(seen)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


FIXED = slice(0, 8)


def start_of(slab: Path) -> Atoms:
    return Inputs.read(slab).geometries[0]


@pytest.mark.slow
def test_the_lower_layers_of_the_slab_do_not_move_in_any_frame(slab: Path) -> None:
    start, seen = start_of(slab), []
    for file in sorted((slab / "trajectories").glob("*.extxyz")):
        for atoms in ase.io.read(file, index=":"):
            np.testing.assert_array_equal(atoms.positions[FIXED], start.positions[FIXED])
            assert not atoms.arrays["velocities"][FIXED].any()
            assert np.abs(atoms.get_forces()[FIXED]).max() > 1e-3
            seen.append(atoms.positions[8:])
    assert len(seen) > 20
    assert np.ptp(seen, axis=0).min() > 0.01


@pytest.mark.slow
def test_what_was_labelled_has_the_lower_layers_to_the_last_bit_and_the_forces_on_them(
    slab: Path,
) -> None:
    run, start = RunDir.of(load(slab)), start_of(slab)
    labels = [LabelStore(run.labels).get(file.stem) for file in run.labels.glob("*/*.json")]
    assert len(labels) > 10
    for label in labels:
        assert label is not None
        assert (label.atoms.positions[FIXED] == start.positions[FIXED]).all()
        assert np.abs(label.label.forces[FIXED]).max() > 1e-3
    for file in (slab / "results").glob("*_set_*.xyz"):
        for atoms in ase.io.read(file, index=":"):
            assert np.abs(atoms.arrays["REF_forces"][FIXED]).max() > 1e-3


@pytest.mark.slow
def test_the_states_of_the_slab_hold_its_lower_layers(slab: Path) -> None:
    run, start = RunDir.of(load(slab)), start_of(slab)
    states = [load_state(file) for file in run.state.glob("*/*/*.json") if _is_state(file)]
    assert states
    for state in states:
        assert state.held.fixed == tuple(range(8))
        assert (state.structure.positions[FIXED] == start.positions[FIXED]).all()


def _is_state(file: Path) -> bool:
    return json.loads(file.read_text()).get("format") == "aimspax-md-state"
