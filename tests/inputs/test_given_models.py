"""Finding the members and datasets that active learning can begin from."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.given_models import find_given_models, seeds_of
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 3, max_initial_epochs: 4, ensemble_size: 2}
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
"""
TAGS = ("water-4", "water-42")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two models and everything that the original leaves beside them; no file is read here."""
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    (tmp_path / "model").mkdir()
    for tag in TAGS:
        (tmp_path / "model" / f"{tag}.model").write_text(tag)
        for phase, prefix in (("initial", "initial_"), ("final", "")):
            for kind, name in (("training", "train"), ("validation", "valid")):
                folder = tmp_path / "data" / phase / kind
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{prefix}{name}_set_{tag}.xyz").touch()
    (tmp_path / "mine.xyz").touch()
    return tmp_path


def read(directory: Path, **al: object) -> tuple[Settings, RunDir]:
    settings = load(directory, {f"ACTIVE_LEARNING.{key}": value for key, value in al.items()})
    return settings, RunDir.of(settings)


def test_a_member_is_named_by_its_file(directory: Path) -> None:
    found = find_given_models(*read(directory))
    assert tuple(found.models) == TAGS


def test_each_member_has_its_own_set_even_if_one_tag_begins_another(directory: Path) -> None:
    found = find_given_models(*read(directory))
    assert found.training["water-4"].name == "initial_train_set_water-4.xyz"
    assert found.validation["water-42"].name == "initial_valid_set_water-42.xyz"


def test_the_final_sets_are_extended_if_that_is_wanted(directory: Path) -> None:
    found = find_given_models(*read(directory, extend_existing_final_ds=True))
    assert found.training["water-4"] == directory / "data/final/training/train_set_water-4.xyz"


def test_one_dataset_is_for_all_members(directory: Path) -> None:
    given = {"initial_train_dataset": "mine.xyz", "initial_valid_dataset": "mine.xyz"}
    found = find_given_models(*read(directory, **given))
    assert set(found.training.values()) == {directory / "mine.xyz"}


def test_datasets_by_tag_must_be_of_the_models_that_are_there(directory: Path) -> None:
    sets = {"water-4": "mine.xyz", "water-5": "mine.xyz"}
    with pytest.raises(
        SettingsError, match="initial_train_dataset: found sets of water-4, water-5"
    ):
        find_given_models(
            *read(directory, initial_train_dataset=sets, initial_valid_dataset="mine.xyz")
        )


def test_both_sets_are_given_or_neither(directory: Path) -> None:
    with pytest.raises(SettingsError, match="initial_valid_dataset: missing"):
        find_given_models(*read(directory, initial_train_dataset="mine.xyz"))


def test_a_missing_set_is_named(directory: Path) -> None:
    (directory / "data/initial/validation/initial_valid_set_water-42.xyz").unlink()
    with pytest.raises(SettingsError, match=r"initial_valid_set_water-42.xyz not found"):
        find_given_models(*read(directory))


@pytest.mark.parametrize("left", [0, 1])
def test_less_than_two_models_are_no_ensemble(directory: Path, left: int) -> None:
    for tag in TAGS[left:]:
        (directory / "model" / f"{tag}.model").unlink()
    with pytest.raises(SettingsError, match="needs an ensemble, and there is none yet"):
        find_given_models(*read(directory))


def test_of_so3lr_one_model_with_several_heads_is_an_ensemble_and_the_key_is_named(
    directory: Path,
) -> None:
    (directory / "model" / "water-42.model").unlink()
    settings = load(directory, {"GENERAL.model_choice": "so3lr"})
    with pytest.raises(SettingsError, match="one with several heads, and ARCHITECTURE"):
        find_given_models(settings, RunDir.of(settings))


def test_seeds_are_the_numbers_that_tags_end_with(directory: Path) -> None:
    assert seeds_of([*TAGS, "mine"], *read(directory)) == {"water-4": 4, "water-42": 42, "mine": 2}


def test_seeds_of_the_originals_file_count_before(directory: Path) -> None:
    np.savez(directory / "data" / "seeds_tags_dict.npz", **dict.fromkeys(TAGS, np.array(7)))
    assert seeds_of(TAGS, *read(directory)) == dict.fromkeys(TAGS, 7)


def test_seeds_of_the_settings_count_first(directory: Path) -> None:
    given = {"water-4": 1, "water-42": 2}
    assert seeds_of(TAGS, *read(directory, seeds_tags_dict=given)) == given


def test_seeds_of_other_members_are_refused(directory: Path) -> None:
    with pytest.raises(SettingsError, match="seeds_tags_dict: found water-1, water-2; the models"):
        find_given_models(*read(directory, seeds_tags_dict={"water-1": 1, "water-2": 2}))


def test_one_model_twice_is_no_ensemble(directory: Path) -> None:
    for tag in TAGS:
        (directory / "model" / f"{tag}.model").write_text("the same")
    with pytest.raises(SettingsError, match=r"water-42.model is the same model as water-4.model"):
        find_given_models(*read(directory))


@pytest.mark.torch
def test_elements_that_given_models_do_not_know_are_told_before_launch(directory: Path) -> None:
    from aimspax_core.model.mace.model_files import save_model
    from tests.model.test_committee import tiny_mace

    for seed, tag in enumerate(TAGS):
        save_model(tiny_mace(seed, elements=[1, 8]), directory / "model" / f"{tag}.model")
    for atoms, wrong in ((molecule("H2O"), 0), (molecule("CH3OH"), 2)):
        ase.io.write(directory / "geometry.in", atoms)
        atoms.info["REF_energy"] = -1.0
        atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
        ase.io.write(directory / "mine.xyz", atoms, format="extxyz")
        sets = {"initial_train_dataset": "mine.xyz", "initial_valid_dataset": "mine.xyz"}
        overrides = {f"ACTIVE_LEARNING.{key}": value for key, value in sets.items()}
        try:
            Inputs.read(directory, overrides, part="active")
            lines = []
        except SettingsError as error:
            lines = str(error).splitlines()
        assert len(lines) == wrong
        for line, file in zip(lines, ("geometry.in", "mine.xyz"), strict=False):
            assert line.startswith(f"{directory / file}: water-4.model does not know C;")
