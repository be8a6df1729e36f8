"""`aimspax evaluate` and `aims-PAX-test`: what they find, say and leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from cyclopts import App

from aimspax_core.errors import ModelError
from aimspax_core.labels.dataset import write
from aimspax_core.model.mace.model_files import save_model
from flows.commands.evaluate import EvaluationOptions, aims_pax_test, evaluate, find_models
from tests.model.test_committee import tiny_mace

EXAMPLE = Path(__file__).parents[3] / "examples" / "aspirin"
OURS = {"evaluation.json", "evaluation.txt", "energy_parity.png", "force_parity.png"}
OURS |= {"error_against_uncertainty.png"}


def labelled(energy: str = "REF_energy", forces: str = "REF_forces") -> list[Atoms]:
    made = []
    for number in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=number)
        noise = np.random.default_rng(number)
        atoms.info[energy] = float(noise.normal())
        atoms.arrays[forces] = noise.normal(size=(3, 3))
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and a dataset."""
    place = tmp_path_factory.mktemp("place")
    for seed in range(2):
        save_model(tiny_mace(seed), place / "models" / f"m-{seed}.model")
    write(place / "test.xyz", labelled())
    return place


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_is_written_to_the_folder_that_was_asked_for(
    place: Path, tmp_path: Path
) -> None:
    evaluate(place / "test.xyz", EvaluationOptions((place / "models",), save=tmp_path / "out"))
    assert files(tmp_path / "out") == OURS
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(told["models"]) == ["m-0", "m-1"]


def test_the_text_shows_the_errors_of_the_json_file(place: Path, tmp_path: Path) -> None:
    evaluate(place / "test.xyz", EvaluationOptions((place / "models",), save=tmp_path))
    mean = json.loads((tmp_path / "evaluation.json").read_text())["ensemble_mean"]["total"]
    row = next(
        line
        for line in (tmp_path / "evaluation.txt").read_text().splitlines()
        if line.startswith("│ mean prediction")
    )
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    names = [f"{kind}_f_meV_per_A" for kind in ("mae", "rmse", "max")]
    assert cells[1:4] == [f"{mean[name]:.1f}" for name in names]
    names = [f"{kind}_e_meV_per_atom" for kind in ("mae", "rmse", "max")]
    assert cells[4:7] == [f"{mean[name]:.2f}" for name in names]


def test_a_run_directory_gives_models_keys_and_folder(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(EXAMPLE, run)
    shutil.copytree(place / "models", run / "results")
    write(tmp_path / "named.xyz", labelled("my_energy", "my_forces"))
    keys = {"MISC.energy_key": "my_energy", "MISC.forces_key": "my_forces"}
    found = evaluate(tmp_path / "named.xyz", EvaluationOptions(directory=run), keys)
    assert [model.tag for model in found.models] == ["m-0", "m-1"]
    assert found.frames.labelled("energy") == found.frames.labelled("forces") == 4
    assert files(run / "evaluation") == OURS


def test_without_results_the_models_are_those_of_model_dir(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(EXAMPLE, run)
    shutil.copytree(place / "models", run / "elsewhere")
    found = evaluate(
        place / "test.xyz", EvaluationOptions(directory=run), {"GENERAL.model_dir": "./elsewhere"}
    )
    assert [model.path.parent.name for model in found.models] == ["elsewhere"] * 2


def test_labels_that_are_left_out_are_told(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = labelled()
    del frames[2].info["REF_energy"]
    write(tmp_path / "some.xyz", frames)
    evaluate(tmp_path / "some.xyz", EvaluationOptions((place / "models",), save=tmp_path))
    assert "energy: only 3 of 4 frames have it (REF_energy)" in capsys.readouterr().out


def test_molecules_lack_no_stress_unless_somebody_asks_for_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = (place / "models",)
    evaluate(place / "test.xyz", EvaluationOptions(models, save=tmp_path))
    assert "stress: only" not in capsys.readouterr().out
    asked = EvaluationOptions(models, save=tmp_path, output_args=("forces", "stress"))
    evaluate(place / "test.xyz", asked)
    assert "stress: only 0 of 4 frames have it" in capsys.readouterr().out


def test_the_originals_command_takes_all_of_its_flags(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "named.xyz", labelled("my_energy", "my_forces"))
    app = App(result_action="return_value")
    app.default(aims_pax_test)
    flags = f"""--models {place / "models"} --data {tmp_path / "named.xyz"} --batch_size 2
        --output_args energy forces stress virials --device cpu --save {tmp_path / "out"}
        --return_predictions True --energy_key my_energy --forces_key my_forces --stress_key s
        --virials_key v --dipole_key d --charges_key c --head_key h"""
    assert app(flags.split()) == 0
    theirs = {"ensemble_test_results.npz", "test_ensemble.log", "predictions.xyz"}
    assert files(tmp_path / "out") == OURS | theirs
    said = capsys.readouterr().out
    assert said.count("--dipole_key, --charges_key, --head_key: accepted, but without effect") == 1
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    with np.load(tmp_path / "out" / "ensemble_test_results.npz", allow_pickle=False) as arrays:
        ours = told["models"]["m-1"]["errors"]["total"]["mae_f_meV_per_A"]
        assert 1000 * float(arrays["ensemble_metrics/m-1/mae_f"]) == pytest.approx(ours)
        assert arrays["ensemble_metrics/m-0/predictions/forces"].shape == (12, 3)


def test_models_of_the_same_name_go_by_their_folders_too(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "models", tmp_path / "older")
    found = find_models([place / "models", tmp_path / "older" / "m-0.model"])
    assert list(found) == ["models/m-0", "m-1", "older/m-0"]


def test_a_model_that_is_named_twice_counts_once(place: Path) -> None:
    folder = place / "models"
    assert list(find_models([folder, folder / "m-1.model"])) == ["m-0", "m-1"]


def test_models_that_cannot_be_told_apart_are_refused(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(place / "models", tmp_path / name / "results")
    with pytest.raises(ModelError, match="2 models would be called results/m-0"):
        find_models([tmp_path / "a" / "results", tmp_path / "b" / "results"])


def test_a_folder_without_models_says_what_it_holds(place: Path) -> None:
    with pytest.raises(ModelError, match=r"no \*.model file there; it holds models, test.xyz"):
        find_models([place])


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file, nor a folder"):
        find_models([tmp_path / "nowhere"])
