"""Claims about exported models: a folder that stands by itself, and a card that tells the truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.errors import CampaignError
from aimspax_core.evaluation.export import export
from aimspax_core.evaluation.model_card import model_card
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings

FINISHED = Path(__file__).parents[1] / "fixtures" / "0.1.0-8e65e71" / "finished"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A finished campaign: 511 has converged, and `last_ensemble/` has it as it was before."""
    shutil.copytree(FINISHED, tmp_path / "run")
    results = tmp_path / "run" / "results"
    (results / "last_ensemble").mkdir()
    for copy in (results / "water-472.model", results / "last_ensemble" / "water-511.model"):
        shutil.copyfile(results / "water-511.model", copy)
    return tmp_path / "run"


def exported(directory: Path, folder: Path, lammps: tuple[str, ...] = ()) -> list[str]:
    settings = load(directory)
    made = export(RunDir.of(settings), settings, settings.geometries(), folder, lammps)
    return [path.name for path in made]


def card(directory: Path, settings: Settings | None = None) -> str:
    settings = settings or load(directory)
    return model_card(RunDir.of(settings), settings, settings.geometries(), ["water-511"])


@pytest.mark.slow
def test_the_folder_stands_by_itself(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    files = exported(directory, folder, ("mliap",))
    assert sorted(files) == sorted(path.name for path in folder.rglob("*.*"))
    assert "water-472.model" not in {path.name for path in folder.glob("*.model")}
    assert {"water-511.model", "water-511.model-mliap_lammps.pt", "MODEL_CARD.md"} < {*files}
    shutil.rmtree(directory)
    script = [sys.executable, folder / "ase_md.py"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if " eV, largest spread" in line]
    assert len(lines) == 11
    for script in folder.glob("*.py"):
        assert "$" not in script.read_text()
        compile(script.read_text(), script.name, "exec")


def test_without_results_there_is_nothing_to_export(directory: Path, tmp_path: Path) -> None:
    shutil.rmtree(directory / "results")
    with pytest.raises(CampaignError, match="no models to export"):
        exported(directory, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_the_card_has_errors_and_where_the_weights_are_from(directory: Path) -> None:
    text = card(directory)
    assert "| water-511 | converged | 15 | 2 | 91.442 | 2.960 |" in text
    assert "All weights were random at first" in text
    assert "no held-out set" in text
    assert "not calibrated" in text


def test_the_card_has_the_calibration(directory: Path) -> None:
    fit = {"points": 12, "factor": 3.25, "spearman": 0.5, "nodes": []}
    known = {"by_measure": {"max_atomic_sd": fit}, "by_element": {"H": 2.5, "O": 4.0}}
    (directory / "results" / "calibration.json").write_text(json.dumps({"calculator": known}))
    text = card(directory)
    assert "3.25 times the spread of the ensemble, by 12 labels" in text
    assert "H 2.50, O 4.00" in text


@pytest.mark.parametrize(
    ("name", "licence"), [("medium", "MIT"), ("mh-1", "Academic"), ("mine.model", "ask those")]
)
def test_the_card_has_the_licence_of_the_foundation_model(
    name: str, licence: str, directory: Path
) -> None:
    (directory / "mine.model").write_text("a model")
    settings = load(directory)
    tuning: dict[str, Any] = {"perform_finetuning": True, "pretrained_model": name}
    training = settings.model.TRAINING.model_copy(update=tuning)
    tuned = replace(settings, model=settings.model.model_copy(update={"TRAINING": training}))
    text = card(directory, tuned)
    assert f"from `{name}`" in text
    assert licence in text
    assert ("SHA-256" in text) == name.endswith(".model")
