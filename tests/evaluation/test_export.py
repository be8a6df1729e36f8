"""Claims about exported models: a folder that stands by itself, and a card that tells the truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.constraints import FixAtoms

from aimspax_core.errors import CampaignError, ModelError, SettingsError
from aimspax_core.evaluation.export import export
from aimspax_core.evaluation.finished import Finished
from aimspax_core.evaluation.model_card import model_card
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.model.family import family_of
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.load import load
from aimspax_core.settings.md import MD
from aimspax_core.settings.model import ModelSettings

needs_so3krates = pytest.mark.skipif(
    why_not_installed() is not None, reason="so3krates-torch is not installed"
)

CAMPAIGNS = Path(__file__).parents[1] / "fixtures" / "0.1.0-8e65e71"
FINISHED = CAMPAIGNS / "finished"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A finished campaign: 511 has converged, and `last_ensemble/` has it as it was before."""
    shutil.copytree(FINISHED, tmp_path / "run")
    results = tmp_path / "run" / "results"
    (results / "last_ensemble").mkdir()
    for copy in (results / "water-472.model", results / "last_ensemble" / "water-511.model"):
        shutil.copyfile(results / "water-511.model", copy)
    return tmp_path / "run"


def finished(directory: Path) -> Finished:
    found = Inputs.of_campaign(directory)
    assert found.state is not None
    return Finished(found.run, found.settings, found.state, found.geometries)


def exported(directory: Path, folder: Path, lammps: tuple[str, ...] | None = ()) -> list[str]:
    return [path.name for path in export(finished(directory), folder, lammps)]


def card(directory: Path, **changes: Any) -> str:
    return model_card(replace(finished(directory), **changes), ["water-511"])


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
    ("name", "licence"),
    [
        ("medium", "MIT, as MACE"),
        ("so3lr", "MIT, so3krates-torch"),
        ("mh-1", "Academic"),
        ("mine.model", "ask those"),
    ],
)
def test_the_card_has_the_licence_of_the_foundation_model(
    name: str, licence: str, directory: Path
) -> None:
    (directory / "mine.model").write_text("a model")
    settings = load(directory)
    tuning: dict[str, Any] = {"perform_finetuning": True, "pretrained_model": name}
    training = settings.model.TRAINING.model_copy(update=tuning)
    tuned = replace(settings, model=settings.model.model_copy(update={"TRAINING": training}))
    text = card(directory, settings=tuned)
    assert f"from `{name}`" in text
    assert licence in text
    assert ("SHA-256" in text) == name.endswith(".model")


# Campaigns that were begun from given models


def test_the_card_claims_no_origin_of_given_models(directory: Path) -> None:
    begun = finished(directory)
    given = {
        "initial_train_dataset": Path("given/a.xyz"),
        "initial_valid_dataset": {"m": Path("b.xyz")},
    }
    al = begun.settings.al.model_copy(update=given)
    project = begun.settings.project.model_copy(update={"ACTIVE_LEARNING": al})
    text = card(
        directory,
        state=begun.state.model_copy(update={"adopted": True}),
        settings=replace(begun.settings, project=project),
    )
    assert "random at first" not in text
    assert "licence, is not known here" in text
    assert "`a.xyz`, `b.xyz`" in text


def test_a_campaign_that_adopted_models_is_told_by_its_journal(tmp_path: Path) -> None:
    directory = shutil.copytree(CAMPAIGNS / "adopted", tmp_path / "run")
    assert finished(directory).state.adopted
    assert "`train.xyz`, `valid-4.xyz`, `valid-42.xyz`" in card(directory)


# What MD was like


def test_the_card_has_all_temperatures_and_pressures(directory: Path) -> None:
    begun = finished(directory)
    several: dict[str, Any] = {"temperature": [300, 450], "pressure": [1e5, 1e9]}
    md = MD(stat_ensemble="NPT", barostat="mtk", **several)
    project = begun.settings.project.model_copy(update={"MD": md})
    text = card(directory, settings=replace(begun.settings, project=project))
    assert "300 / 450 K" in text
    assert "1 / 1e+04 bar" in text


def test_what_was_held_is_held_in_the_script_and_told(directory: Path, tmp_path: Path) -> None:
    begun = finished(directory)
    held = replace(begun, settings=replace(begun.settings, held={0: HeldAtoms(fixed=(1,))}))
    list(export(held, tmp_path / "out", ()))
    (constraint,) = ase.io.read(tmp_path / "out" / "start.xyz").constraints
    assert isinstance(constraint, FixAtoms)
    assert constraint.index.tolist() == [1]
    assert "1 atom fixed" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


# Where and what is written


def test_families_without_lammps_are_exported_unless_it_is_asked_for(
    directory: Path, tmp_path: Path
) -> None:
    begun = finished(directory)
    general = {"name_exp": "water", "model_choice": "so3krates"}
    model = ModelSettings.model_validate({"GENERAL": general})
    other = replace(begun, settings=replace(begun.settings, model=model))
    with pytest.raises(ModelError, match="cannot be written for LAMMPS"):
        list(export(other, tmp_path / "out", ("mliap",)))
    files = [path.name for path in export(other, tmp_path / "out")]
    assert "water-511.model" in files
    assert not any(name.endswith(".pt") for name in files)


def of_so3krates(begun: Finished, choice: str, **architecture: Any) -> Finished:
    """The campaign with small models of another family in the place of its own."""
    network = {"num_features": 8, "num_heads": 2, "degrees": [1, 2], "num_layers": 1}
    far = {"r_max_lr": 6.0} if choice == "so3lr" else {}
    general = {"name_exp": "water", "model_choice": choice}
    model = ModelSettings.model_validate(
        {"GENERAL": general, "ARCHITECTURE": network | far | architecture}
    )
    made = family_of(model)
    constants = made.constants(atomic_energies={1: -10.0, 8: -100.0}, avg_num_neighbors=2.0)
    for seed, file in enumerate(sorted(begun.run.results.rglob("*.model"))):
        weights = made.build(model, (1, 8), constants, seed)
        made.save(made.copy_with(weights, dict(weights.named_parameters()), model), file)
    return replace(begun, settings=replace(begun.settings, model=model))


def said_by_script(folder: Path) -> str:
    """Run the exported MD, with steps so short that models without training keep the molecule."""
    script = folder / "ase_md.py"
    text = script.read_text()
    assert "timestep=0.5 * units.fs" in text
    script.write_text(text.replace("timestep=0.5", "timestep=0.01"))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_so3krates
@pytest.mark.slow
@pytest.mark.parametrize("choice", ["so3krates", "so3lr"])
def test_so3krates_and_so3lr_have_a_script_that_runs_by_their_package_alone(
    directory: Path, tmp_path: Path, choice: str
) -> None:
    begun, folder = finished(directory), tmp_path / "out"
    other = of_so3krates(begun, choice)
    files = [path.name for path in export(other, folder)]
    assert any(name.endswith("-mliap_lammps.pt") for name in files) == (choice == "so3lr")
    assert "largest spread of a force" in said_by_script(folder)
    charged = begun.geometries[0].copy()
    charged.info["charge"] = 1
    ion = replace(other, geometries=[charged])
    assert not any(path.suffix == ".pt" for path in export(ion, folder))
    with pytest.raises(ModelError, match="no way" if choice == "so3krates" else "charge=1"):
        list(export(ion, folder, ("mliap",)))


@needs_so3krates
@pytest.mark.slow
def test_the_script_of_a_model_with_several_heads_has_their_spread(
    directory: Path, tmp_path: Path
) -> None:
    table = directory / "results" / "errors.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "water-472" not in line))
    heads = {"use_multihead_model": True, "num_multihead_heads": 3}
    alone = of_so3krates(finished(directory), "so3lr", **heads)
    files = [path.name for path in export(alone, tmp_path / "out")]
    assert [name for name in files if ".model" in name] == ["water-511.model"]
    assert "largest spread of a force" in said_by_script(tmp_path / "out")
    with pytest.raises(ModelError, match="several heads, and they have 3"):
        list(export(alone, tmp_path / "out", ("mliap",)))


def test_a_second_export_leaves_nothing_of_the_first(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    exported(directory, folder)
    for left in ("gone.model", "gone.model-lammps.pt", "ensemble/gone.model", "notes.txt"):
        (folder / left).write_text("of the first")
    files = exported(directory, folder)
    assert {*files, "notes.txt"} == {path.name for path in folder.rglob("*.*")}


@pytest.mark.parametrize("folder", ["results", "model"])
def test_models_that_are_no_export_are_not_touched(directory: Path, folder: str) -> None:
    (directory / folder).mkdir(exist_ok=True)
    (directory / folder / "mine.model").write_text("mine")
    before = {path: path.read_bytes() for path in (directory / folder).glob("*.*")}
    with pytest.raises(CampaignError, match="no export has written"):
        exported(directory, directory / folder)
    assert before == {path: path.read_bytes() for path in (directory / folder).glob("*.*")}


def test_a_campaign_is_exported_where_it_cannot_run(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with (directory / "mace.yaml").open("a") as file:
        file.write("MISC: {device: cuda}\n")
    with pytest.raises(SettingsError, match=r"MISC\.device"):
        Inputs.read(directory, None, "any")
    assert "water-511.model" in exported(directory, tmp_path / "out")
