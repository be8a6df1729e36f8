"""The aspirin example's held-out set, and the script that made it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.dataset import DEFAULT_KEYS, read, read_labels
from aimspax_core.reference.registry import build_reference

ASPIRIN = Path(__file__).parents[2] / "examples" / "aspirin"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with two trajectories of two steps."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = importlib.util.spec_from_file_location("held_out", ASPIRIN / "held_out.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    numbers = (("TRAJECTORIES", 2), ("EQUILIBRATION", 0), ("SPACING", 1), ("FRAMES", 2))
    for name, number in numbers:
        monkeypatch.setattr(module, name, number)
    return module


def made(script: ModuleType, monkeypatch: pytest.MonkeyPatch, file: Path, *more: str) -> Path:
    monkeypatch.setattr("sys.argv", ["held_out.py", str(file), *more])
    script.main()
    return file


def test_frames_of_all_trajectories_are_written_with_their_labels(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = read(made(script, monkeypatch, tmp_path / "a.xyz"))
    assert len(frames) == 4
    assert len({frame.positions.tobytes() for frame in frames}) == 4
    engine = build_reference(script.REFERENCE, tmp_path)
    for frame in frames:
        label = engine.label(frame)
        assert frame.info[DEFAULT_KEYS.energy] == pytest.approx(label.energy, abs=1e-5)
        np.testing.assert_allclose(frame.arrays[DEFAULT_KEYS.forces], label.forces, atol=1e-5)


def test_another_seed_gives_other_frames_and_the_same_seed_the_same(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, again, other = (
        made(script, monkeypatch, tmp_path / f"{name}.xyz", "--seed", seed).read_text()
        for name, seed in (("one", "1"), ("again", "1"), ("other", "7"))
    )
    assert one == again != other


def test_the_example_is_judged_by_frames_that_its_own_reference_has_labelled() -> None:
    inputs = Inputs.read(ASPIRIN)
    (file,) = inputs.settings.misc.test_files(ASPIRIN).values()
    labels = read_labels(file)
    assert len(labels) == 100
    engine = build_reference(inputs.settings.reference, ASPIRIN)
    for atoms, label in labels[::40]:
        anew = engine.label(atoms)
        assert label.energy == pytest.approx(anew.energy, abs=1e-5)
        np.testing.assert_allclose(label.forces, anew.forces, atol=1e-5)
