"""The aspirin example's own script: models held against a trajectory that no campaign has seen."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from aimspax_core.labels.dataset import DEFAULT_KEYS, read
from aimspax_core.model.family import family_of
from aimspax_core.model.mace.model_files import save_model
from aimspax_core.model.member import Member
from aimspax_core.settings.load import load
from tests.tasks.conftest import MODEL, PROJECT

SCRIPT = Path(__file__).parents[2] / "examples" / "aspirin" / "held_out.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, with a trajectory of three steps."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = importlib.util.spec_from_file_location("held_out", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    for name, steps in (("EQUILIBRATION", 1), ("SPACING", 1), ("FRAMES", 2)):
        monkeypatch.setattr(module, name, steps)
    yield module
    logging.disable(logging.NOTSET)


def run_directory(script: ModuleType, folder: Path) -> Path:
    """A finished run as far as the script looks at it: two models of aspirin, hardly trained."""
    folder.mkdir()
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (folder / "mace.yaml").write_text(MODEL, encoding="utf-8")
    (geometry,) = script.read_geometries([script.HERE / "geometry.in"])
    geometry.write(folder / "geometry.in", format="aims")
    model = load(folder).model
    atoms = geometry.copy()
    atoms.info[DEFAULT_KEYS.energy] = -1000.0
    atoms.arrays[DEFAULT_KEYS.forces] = np.zeros((len(atoms), 3))
    graphs = family_of(model).graphs([atoms], (1, 6, 8), model)
    (folder / "results").mkdir()
    for seed in (1, 2):
        member = Member.create(model, (1, 6, 8), f"m-{seed}", seed, graphs)
        save_model(member.averaged_model(), folder / "results" / f"m-{seed}.model")
    return folder


def test_every_model_and_their_mean_have_a_line_of_errors(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, frames = run_directory(script, tmp_path / "run"), tmp_path / "frames.xyz"
    for _ in range(2):  # the second time with the trajectory that is there
        monkeypatch.setattr("sys.argv", ["held_out.py", str(run), "--frames", str(frames)])
        script.main()
        made, *table = capsys.readouterr().out.split("2 frames of a GFN2-xTB trajectory at 500 K")
        rows = [line.split() for line in "".join(table).splitlines()[3:]]
        assert [row[0] for row in rows] == ["m-1", "m-2", "mean"]
    assert not made
    labelled = read(frames)
    assert len(labelled) == 2
    assert (labelled[0].positions != labelled[1].positions).any()
    forces = np.array([frame.arrays[DEFAULT_KEYS.forces] for frame in labelled])
    (predicted,) = {row[0]: float(row[1]) for row in rows if row[0] == "m-1"}.values()
    _, own = script.predictions(run / "results" / "m-1.model", labelled)
    assert predicted == pytest.approx(1000 * np.abs(own - forces).mean(), abs=0.06)


def test_a_run_without_models_is_told(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["held_out.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        script.main()


def test_a_constant_in_the_energies_is_no_error_without_its_offset(script: ModuleType) -> None:
    frame = script.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    frame.info[DEFAULT_KEYS.energy] = 1.0
    frame.arrays[DEFAULT_KEYS.forces] = np.zeros((2, 3))
    forces = np.zeros((2, 2, 3))
    forces[:, 0, 0] = 0.6
    name, *found = script.row("x", np.array([1.2, 1.2]), forces, [frame, frame]).split()
    mae, rmse, energy, centred = map(float, found)
    assert (name, mae, energy, centred) == ("x", 100.0, 100.0, 0.0)
    assert rmse == pytest.approx(1000 * 0.6 / 6**0.5, abs=0.06)
