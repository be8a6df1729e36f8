"""Claims about campaigns whose members are fine-tuned, before they begin and when they go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from aimspax_core.campaign.events import Started
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.pretrained import with_its_architecture
from aimspax_core.inputs.provenance import changed, write_provenance
from aimspax_core.labels.dataset import write
from aimspax_core.model.family import family
from aimspax_core.model.mace import build, model_files
from aimspax_core.report.plan import plan
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.load import load
from aimspax_core.settings.model import ModelSettings

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 3, max_initial_epochs: 4, ensemble_size: 2,
   initial_sampling: aimd}
ACTIVE_LEARNING: {num_trajectories: 2, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
"""
TUNED = {"TRAINING.perform_finetuning": True, "TRAINING.pretrained_model": "foundation.model"}
TINY = {"r_max": 3.25, "num_channels": 2, "max_L": 0, "max_ell": 1, "correlation": 1,
        "num_interactions": 1, "num_radial_basis": 3, "radial_MLP": [4]}  # fmt: skip
SMALL = {"num_features": 8, "num_heads": 2, "num_layers": 1, "degrees": [1, 2],
         "num_radial_basis_fn": 4, "energy_regression_dim": 8}  # fmt: skip

needs_so3krates = pytest.mark.skipif(
    why_not_installed() is not None, reason=why_not_installed() or ""
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a foundation model for H, N and O."""
    path = tmp_path_factory.mktemp("model") / "foundation.model"
    made = ModelSettings.model_validate({"GENERAL": {"name_exp": "f"}, "ARCHITECTURE": TINY})
    constants = build.Constants({1: -13.5, 7: -1480.0, 8: -2041.75}, 5.5, 1.75, 0.0)
    model_files.save_model(build.build(made, (1, 7, 8), constants, seed=7), path)
    return path.read_bytes()


@pytest.fixture
def directory(tmp_path: Path, model: bytes) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    (tmp_path / "foundation.model").write_bytes(model)
    return tmp_path


def read(directory: Path, **overrides: Any) -> Inputs:
    return Inputs.read(directory, TUNED | {k.replace("_of_", "."): v for k, v in overrides.items()})


def test_the_architecture_is_the_models(directory: Path) -> None:
    settings = read(directory).settings
    found = mace_architecture(settings.model)
    assert {key: getattr(found, key) for key in TINY} == TINY
    line = next(line for line in plan(settings, [molecule("H2O")], ("a",)) if "fine" in line)
    assert "foundation.model" in line
    assert "learning rate 0.01" in line


def test_a_key_that_says_otherwise_is_told_and_one_that_agrees_is_not(directory: Path) -> None:
    read(directory, ARCHITECTURE_of_r_max=3.25)
    with pytest.raises(SettingsError, match=r"ARCHITECTURE\.r_max: found 5\.0, but it is 3\.25"):
        read(directory, ARCHITECTURE_of_r_max=5.0)


def test_beside_other_mistakes_the_architecture_is_the_models_too(directory: Path) -> None:
    """At its 3.25 Å neighbours would be out of sight; at the default of 5 Å they would not."""
    ase.io.write(directory / "geometry.in", Atoms("OH", positions=[[0, 0, 0], [0, 0, 4.0]]))
    with pytest.raises(SettingsError, match=r"r_max.*3\.25"):
        read(directory, ACTIVE_LEARNING_of_c_x="far")
    with pytest.raises(SettingsError) as mistakes:
        read(directory, TRAINING_of_perform_finetuning="perhaps")
    assert "r_max" not in str(mistakes.value)
    with pytest.raises(SettingsError, match=r"(?s)c_x.*r_max: found 5\.0, but it is 3\.25"):
        read(directory, ACTIVE_LEARNING_of_c_x="far", ARCHITECTURE_of_r_max=5.0)


def test_a_campaign_knows_the_architecture_of_its_members_without_the_model(
    directory: Path,
) -> None:
    inputs = read(directory)
    state = apply(None, Started(rules=inputs.rules))
    (directory / "foundation.model").write_text("something else")
    settings = with_its_architecture(load(directory, TUNED), state)
    assert settings.model.ARCHITECTURE == inputs.settings.model.ARCHITECTURE
    again = Rules.of(settings, inputs.rules.tags, 1, inputs.rules)
    assert again.architecture == inputs.rules.architecture


@pytest.mark.parametrize("tuned_before", [True, False])
def test_neither_the_model_nor_the_choice_may_change_on_the_way(
    directory: Path, tuned_before: bool
) -> None:
    inputs = read(directory)
    plain = Inputs.read(directory)
    before, now = (inputs, plain) if tuned_before else (plain, inputs)
    write_provenance(before.run, before.settings, before.geometries)
    with pytest.raises(SettingsError, match=r"TRAINING\.perform_finetuning"):
        changed(now.run, now.settings, now.geometries)
    if tuned_before:
        (directory / "foundation.model").write_bytes(b"another")
        with pytest.raises(SettingsError, match=r"TRAINING\.pretrained_model \(content\)"):
            changed(before.run, before.settings, before.geometries)


def test_what_is_no_model_is_told_before_launch(directory: Path) -> None:
    (directory / "foundation.model").write_text("no model")
    with pytest.raises(SettingsError, match=r"TRAINING\.pretrained_model: .* is not a readable"):
        read(directory)


def test_an_element_that_the_model_does_not_know_is_told(directory: Path) -> None:
    ase.io.write(directory / "geometry.in", molecule("CH3OH"))
    with pytest.raises(SettingsError, match=r"pretrained_model: foundation\.model does not know C"):
        read(directory)


@pytest.mark.parametrize(
    ("misc", "key"),
    [
        ({"kernel": "lean"}, "MISC.kernel"),
        ({"enable_cueq": True, "device": "cuda"}, "MISC.enable_cueq"),
    ],
)
def test_lora_has_kernels_of_its_own(directory: Path, misc: dict[str, Any], key: str) -> None:
    for choice in ("naive", "lora"):
        given = TUNED | {"TRAINING.finetuning_choice": choice}
        settings = load(directory, given | {f"MISC.{k}": v for k, v in misc.items()}).model
        found = settings.family.mistakes(settings, (1, 8), False)
        assert any(mistake.startswith(key) for mistake in found) == (choice == "lora")


def test_that_lora_is_trained_by_mace_itself_is_noted(directory: Path) -> None:
    for choice, compiled in (("naive", False), ("lora", True)):
        given = TUNED | {"TRAINING.finetuning_choice": choice, "MISC.compile": "on"}
        settings = load(directory, given).model
        notes = [note.partition(": ")[0] for note in settings.family.notes(settings)]
        assert notes == ["MISC.kernel", "MISC.compile"] * compiled


def test_families_that_cannot_be_fine_tuned_say_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(directory, TUNED)
    row = replace(settings.model.family, pretrained_keys=())
    monkeypatch.setattr(ModelSettings, "family", row)
    with pytest.raises(SettingsError, match=r"perform_finetuning: .* mace models cannot"):
        with_its_architecture(settings, None)


def test_a_model_of_another_family_is_told_to_be_one(directory: Path) -> None:
    settings = load(directory, TUNED | {"GENERAL.model_choice": "so3krates"})
    with pytest.raises(SettingsError, match=r"pretrained_model: .* no so3krates model but"):
        with_its_architecture(settings, None)


@pytest.mark.parametrize("distinct", [True, False])
def test_members_that_will_hardly_differ_are_noted(directory: Path, distinct: bool) -> None:
    key = "INITIAL_DATASET_GENERATION.distinct_model_sets"
    notes = Inputs.read(directory, TUNED | {key: distinct}).settings.notes
    assert any("distinct_model_sets" in note for note in notes) == (not distinct)
    notes = Inputs.read(directory, {key: distinct}).settings.notes
    assert not any("distinct_model_sets" in note for note in notes)


@needs_so3krates
def test_several_heads_of_one_member_need_no_sets_of_their_own(directory: Path) -> None:
    idg = "INITIAL_DATASET_GENERATION"
    given = so3lr_tuned() | {f"{idg}.distinct_model_sets": False, f"{idg}.ensemble_size": 1}
    given |= {"ARCHITECTURE.use_multihead_model": True, "ARCHITECTURE.num_multihead_heads": 3}
    found = Inputs.read(directory, given | {"TRAINING.convert_to_multihead": True})
    assert not any("distinct_model_sets" in note for note in found.settings.notes)


def test_members_that_are_there_are_not_begun_from_another_model(
    directory: Path, model: bytes
) -> None:
    (directory / "model").mkdir()
    for place in ("a", "b"):
        (directory / "model" / f"{place}.model").write_bytes(model + place.encode())
    ase.io.write(directory / "set.xyz", molecule("H2O"))
    sets = {f"ACTIVE_LEARNING.initial_{kind}_dataset": "set.xyz" for kind in ("train", "valid")}
    with pytest.raises(SettingsError, match=r"TRAINING\.perform_finetuning: found True"):
        Inputs.read(directory, TUNED | sets, part="active")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"TRAINING.perform_finetuning": True}, "pretrained_model"),
        ({"TRAINING.pretrained_model": "foundation.model"}, "pretrained_model"),
        ({**TUNED, "TRAINING.pretrained_weights": "none.pt"}, "pretrained_weights"),
    ],
)
def test_half_of_the_keys_is_a_mistake(directory: Path, given: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as found:
        load(directory, given)
    assert [mistake.key for mistake in found.value.mistakes] == [f"TRAINING.{key}"]


def so3krates_file(directory: Path, told: bool) -> dict[str, Any]:
    """Overrides with which members begin from a small model of H, N and O in the directory."""
    name = {"model_choice": "so3krates"}
    made = ModelSettings.model_validate(
        {"GENERAL": {"name_exp": "f"} | name, "ARCHITECTURE": SMALL}
    )
    own = family("so3krates")
    constants = own.constants(dict.fromkeys((1, 7, 8), 0.0), 5.5)
    model: Any = own.build(made, (1, 7, 8), constants, 7)
    if not told:
        del model.aimspax_elements
    weights = dict(model.named_parameters())
    own.save(own.copy_with(model, weights, made), directory / "foundation.model")
    return TUNED | {"GENERAL.model_choice": "so3krates"}


@needs_so3krates
def test_an_element_that_a_loaded_model_does_not_know_is_told(directory: Path) -> None:
    given = so3krates_file(directory, told=True)
    Inputs.read(directory, given)
    ase.io.write(directory / "geometry.in", molecule("CH3OH"))
    with pytest.raises(SettingsError, match=r"pretrained_model: foundation\.model does not know C"):
        Inputs.read(directory, given)


@needs_so3krates
@pytest.mark.parametrize("told", [True, False])
def test_a_model_that_does_not_tell_its_elements_is_noted(directory: Path, told: bool) -> None:
    notes = Inputs.read(directory, so3krates_file(directory, told)).settings.notes
    assert any("does not say which elements" in note for note in notes) == (not told)


REPLAY = {**TUNED, "TRAINING.multiheads_finetuning": True, "TRAINING.pt_train_file": "old.xyz"}


def replay(directory: Path, *names: str) -> None:
    """Write labelled molecules as what the model was trained on before."""
    frames = [molecule(name) for name in names]
    for frame in frames:
        frame.info["REF_energy"], frame.arrays["REF_forces"] = -1.0, 0.1 * frame.positions
    write(directory / "old.xyz", frames)


def test_frames_of_other_elements_than_the_geometries_are_noted(directory: Path) -> None:
    replay(directory, "H2O", "NH3", "H2O2")
    inputs = Inputs.read(directory, REPLAY)
    (note,) = (one for one in inputs.settings.notes if "pt_train_file" in one)
    assert "2 of 3 frames" in note
    line = next(line for line in plan(inputs.settings, [molecule("H2O")], ("a",)) if "fine" in line)
    assert "beside at most 100 frames of old.xyz" in line
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    replay(directory, "H2O")
    with pytest.raises(SettingsError, match=r"pt_train_file \(content\)"):
        changed(inputs.run, inputs.settings, inputs.geometries)


@pytest.mark.parametrize(
    ("names", "told"), [(["NH3"], "none of its 1 frames"), (["unlabelled"], "REF_energy")]
)
def test_replayed_data_that_cannot_be_used_are_told(
    directory: Path, names: list[str], told: str
) -> None:
    if names == ["unlabelled"]:
        ase.io.write(directory / "old.xyz", molecule("H2O"))
    else:
        replay(directory, *names)
    with pytest.raises(SettingsError, match=rf"TRAINING\.pt_train_file: .*{told}"):
        Inputs.read(directory, REPLAY)


@needs_so3krates
def test_weights_alone_are_of_the_architecture_that_is_written(directory: Path) -> None:
    given = so3krates_file(directory, told=True)
    model = family("so3krates").load(directory / "foundation.model")
    torch.save(model.state_dict(), directory / "weights.pt")
    alone = given | {"TRAINING.pretrained_model": None, "TRAINING.pretrained_weights": "weights.pt"}
    with pytest.raises(SettingsError, match=r"pretrained_weights: .* network of ARCHITECTURE"):
        Inputs.read(directory, alone)
    both = given | {"TRAINING.pretrained_weights": "foundation.model"}
    with pytest.raises(SettingsError, match=r"pretrained_weights: .* a whole model"):
        Inputs.read(directory, both)
    small = {f"ARCHITECTURE.{key}": value for key, value in SMALL.items()}
    inputs = Inputs.read(directory, alone | small)
    assert inputs.rules.architecture["num_features"] == SMALL["num_features"]
    state = apply(None, Started(rules=inputs.rules))
    other = load(directory, alone | small | {"ARCHITECTURE.num_layers": 2})
    with pytest.raises(SettingsError, match=r"num_layers: found 2, but it is 1 as the campaign"):
        with_its_architecture(other, state)
    line = next(line for line in plan(inputs.settings, [molecule("H2O")], ("a",)) if "fine" in line)
    assert "the weights of weights.pt in the network of ARCHITECTURE" in line
    assert any("mean number of neighbours" in note for note in inputs.settings.notes)
    with pytest.raises(SettingsError, match=r"pretrained_weights \(content\)"):
        write_provenance(inputs.run, inputs.settings, inputs.geometries)
        (directory / "weights.pt").write_bytes(b"others")
        changed(inputs.run, inputs.settings, inputs.geometries)


def test_weights_alone_do_not_make_a_network_of_mace(directory: Path) -> None:
    (directory / "weights.pt").write_bytes(b"weights")
    given = {"TRAINING.perform_finetuning": True, "TRAINING.pretrained_weights": "weights.pt"}
    with pytest.raises(SettingsError, match=r"TRAINING\.pretrained_model: missing; ") as found:
        Inputs.read(directory, given | {"MISC.compute_dipole": True})
    assert "MISC.compute_dipole" in str(found.value), "with all else that is wrong"


@needs_so3krates
def test_given_models_that_do_not_know_an_element_are_told(directory: Path) -> None:
    so3krates_file(directory, told=True)
    content = (directory / "foundation.model").read_bytes()
    (directory / "model").mkdir()
    for place in ("a", "b"):
        (directory / "model" / f"{place}.model").write_bytes(content + place.encode())
    ase.io.write(directory / "geometry.in", molecule("CH3OH"))
    ase.io.write(directory / "set.xyz", molecule("H2O"))
    sets = {f"ACTIVE_LEARNING.initial_{kind}_dataset": "set.xyz" for kind in ("train", "valid")}
    with pytest.raises(SettingsError, match=r"geometry\.in: \w\.model does not know C"):
        Inputs.read(directory, {"GENERAL.model_choice": "so3krates"} | sets, part="active")


@pytest.mark.parametrize(
    ("choice", "name", "told"),
    [
        ("so3krates", "small", "model_choice: mace"),
        ("so3krates", "so3lr", "model_choice: so3lr"),
        ("mace", "so3lr", "model_choice: so3lr"),
        ("so3lr", "small", "model file, or so3lr"),
    ],
)
def test_a_name_of_another_family_is_told(
    directory: Path, choice: str, name: str, told: str
) -> None:
    given = {"GENERAL.model_choice": choice, "TRAINING.pretrained_model": name}
    with pytest.raises(SettingsError, match=rf"pretrained_model: found '{name}'.*{told}"):
        with_its_architecture(load(directory, TUNED | given), None)


@needs_so3krates
def test_so3lr_is_tuned_with_a_rate_that_it_survives(directory: Path) -> None:
    tuned = so3lr_tuned()
    inputs = Inputs.read(directory, tuned)
    assert inputs.settings.model.TRAINING.lr == 0.0003
    line = next(line for line in plan(inputs.settings, [molecule("H2O")], ("a",)) if "fine" in line)
    assert "learning rate 0.0003" in line
    named = Inputs.read(directory, tuned | {"TRAINING.lr": 0.01})
    assert named.settings.model.TRAINING.lr == 0.01
    anew = {"GENERAL.model_choice": "so3lr", "ARCHITECTURE.r_max_lr": 12}
    assert Inputs.read(directory, anew).settings.model.TRAINING.lr == 0.01
    lora = tuned | {"TRAINING.finetuning_choice": "lora"}
    assert Inputs.read(directory, lora).settings.model.TRAINING.lr == 0.001


@needs_so3krates
def test_a_campaign_that_was_begun_before_goes_on_with_the_rate_of_then(directory: Path) -> None:
    inputs = Inputs.read(directory, so3lr_tuned())
    for before, lr in ((False, 0.0003), (True, 0.01)):
        rules = inputs.rules.but(tuning_lr=not before)
        state = apply(None, Started(rules=rules))
        for _ in range(2):
            settings = with_its_architecture(load(directory, so3lr_tuned()), state)
            assert settings.model.TRAINING.lr == lr
            rules = Rules.of(settings, rules.tags, 1, rules)
            assert rules.tuning_lr is not before


def so3lr_tuned() -> dict[str, Any]:
    return TUNED | {"GENERAL.model_choice": "so3lr", "TRAINING.pretrained_model": "so3lr"}
