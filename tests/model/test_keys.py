"""Every key of the model settings does something."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aimspax_core.model.family import family_of
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.settings.families.mace import MaceArchitecture
from aimspax_core.settings.model import General, ModelMisc, ModelSettings, Training

ELEMENTS = (1, 8, 29)
BASE: dict[str, dict[str, Any]] = {
    "GENERAL": {"name_exp": "t", "default_dtype": "float64"},
    "ARCHITECTURE": {
        "num_channels": 4,
        "num_interactions": 1,
        "max_L": 0,
        "max_ell": 1,
        "correlation": 2,
        "num_radial_basis": 4,
        "radial_MLP": [8],
        "r_max": 3.5,
    },
    "TRAINING": {"batch_size": 2, "valid_batch_size": 2},
    "MISC": {},
}
FLAT = {"lr": 1e-6, "scheduler_patience": 0}  # so low that no validation is better
DEEP = {"num_interactions": 2}  # what a single layer does not have

# Key, another value, where it shows, and what else it needs to show.
ARCHITECTURE: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("atomic_energies", {"H": -1.0, "O": -2.0, "Cu": -3.0}, "constants", {}),
    ("compute_avg_num_neighbors", False, "constants", {}),
    ("correlation", 3, "shapes", {}),
    ("gate", "tanh", "valid_loss", DEEP),
    ("interaction", "RealAgnosticDensityResidualInteractionBlock", "shapes", DEEP),
    ("interaction_first", "RealAgnosticInteractionBlock", "shapes", {}),
    ("max_ell", 2, "shapes", {}),
    ("max_L", 1, "shapes", DEEP),
    ("MLP_irreps", "8x0e", "shapes", DEEP),
    ("model", "MACE", "constants", {"atomic_energies": {"H": 0.0, "O": 0.0, "Cu": 0.0}}),
    ("num_channels", 8, "shapes", {}),
    ("num_cutoff_basis", 6, "valid_loss", {}),
    ("num_interactions", 2, "shapes", {}),
    ("num_radial_basis", 5, "shapes", {}),
    ("r_max", 3.0, "valid_loss", {}),
    ("radial_MLP", [8, 8], "shapes", {}),
    ("radial_type", "gaussian", "valid_loss", {}),
    ("scaling", "std_scaling", "constants", {}),
    ("use_reduced_cg", True, "shapes", {"correlation": 3}),
]
TRAINING: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("amsgrad", False, "weights", {}),
    ("batch_size", 3, "weights", {}),
    ("clip_grad", None, "weights", {}),
    ("config_type_weights", {"Default": 1.0, "rare": 9.0}, "valid_loss", {}),
    ("ema", False, "averages", {}),
    ("ema_decay", 0.5, "averages", {}),
    ("energy_weight", 100.0, "weights", {}),
    ("forces_weight", 10.0, "weights", {}),
    ("loss", "huber", "weights", {}),
    ("lr", 0.02, "lr", {}),
    ("lr_factor", 0.5, "lr", FLAT),
    ("lr_scheduler_gamma", 0.5, "lr", {"scheduler": "ExponentialLR"}),
    ("optimizer", "adamw", "weights", {"weight_decay": 0.1}),
    ("scheduler", "ExponentialLR", "lr", {}),
    ("scheduler_patience", 50, "lr", FLAT),
    ("seed", 7, "weights", {}),
    ("start_swa", 2, "lr", {"swa": True}),
    ("stress_weight", 1e6, "weights", {"loss": "stress"}),
    ("swa", True, "lr", {}),
    ("valid_batch_size", 1, "valid_loss", {}),
    ("virials_weight", 1e6, "weights", {"loss": "virials"}),
    ("weight_decay", 0.1, "weights", {}),
]
GENERAL = [("compute_stress", True, "mae_stress", {}), ("default_dtype", "float32", "dtype", {})]
MISC = [("restart_latest", True, "begin", {})]

FIXED = {"model_choice"}
"""Keys with one value."""
BY_THEMSELVES = {
    *("compile", "device", "enable_cueq", "kernel", "solve_energies"),
    *("perform_finetuning", "finetuning_choice", "pretrained_model", "pretrained_weights"),
    *("freeze", "lora_rank", "lora_alpha", "lora_freeze_A", "convert_to_lora"),
    *("freeze_embedding", "freeze_zbl", "freeze_hirshfeld", "freeze_partial_charges"),
    *("freeze_shifts", "freeze_scales"),
    *("compute_dipole", "dipole_weight", "hirshfeld_weight"),
    *("multiheads_finetuning", "pt_train_file", "num_samples_pt", "weight_pt_head"),
    "convert_to_multihead",
}
"""Keys that need a GPU, or change rounding alone; see the last test, test_cueq, test_kernel. What
tasks do around training; see test_energies. What members begin from; see test_fine_tuning,
test_tuned_weights and test_heads of So3krates, and test_heads of MACE. And what SO3LR alone
predicts; see its test_dipoles."""
NOT_OF_THE_MODEL = {
    *("name_exp", "checkpoints_dir", "loss_dir", "model_dir", "seed"),
    *("error_table", "keep_checkpoints", "log_level"),
}
"""Keys of GENERAL and MISC for campaign, files and logs."""


def structures(count: int, seed: int) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        rng = np.random.default_rng(seed + index)
        atoms = bulk("Cu", cubic=True) if index % 2 else molecule("H2O")
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        if atoms.pbc.all():
            atoms.info["REF_stress"] = atoms.get_stress()
        else:
            atoms.info["config_type"] = "rare"
        atoms.calc = None
        made.append(atoms)
    return made


@cache
def evidence(given: str) -> dict[str, Any]:
    """What can be seen of a model trained under these settings (JSON)."""
    settings = ModelSettings.model_validate(json.loads(given))
    graphs = family_of(settings).graphs
    train = graphs(structures(6, seed=0), ELEMENTS, settings)
    valid = graphs(structures(3, seed=40), ELEMENTS, settings)
    member = Member.create(settings, ELEMENTS, "t-1", 1, train)
    metrics = member.train(train, valid, epochs=2, valid_skip=1, scheduler=True)
    member.enter(Stage.CONVERGE)
    begin = listed(member.model)
    more, _ = member.converge(train, valid, max_epochs=3, patience=9, margin=0.0)
    found = metrics + more
    return {
        "shapes": [(name, tuple(w.shape)) for name, w in member.model.named_parameters()],
        "dtype": {str(weight.dtype) for weight in member.model.parameters()},
        "constants": member.constants,
        "begin": begin,
        "weights": listed(member.model),
        "averages": [w.tolist() for w in member.learner.averaged_weights().values()],
        "valid_loss": [one.valid_loss for one in found],
        "mae_stress": [one.mae_stress for one in found],
        "lr": [one.lr for one in found],
    }


def listed(model: torch.nn.Module) -> list[float]:
    return [number for weight in model.parameters() for number in weight.detach().ravel().tolist()]


def given(section: str, changes: dict[str, Any]) -> str:
    return json.dumps(BASE | {section: BASE[section] | changes})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "key", "value", "where", "needs"),
    [
        pytest.param(section, *row, id=f"{section}.{row[0]}")
        for section, rows in (
            ("ARCHITECTURE", ARCHITECTURE),
            ("TRAINING", TRAINING),
            ("GENERAL", GENERAL),
            ("MISC", MISC),
        )
        for row in rows
    ],
)
def test_the_key_changes_what_it_should(
    section: str, key: str, value: Any, where: str, needs: dict[str, Any]
) -> None:
    without = evidence(given(section, needs))
    with_it = evidence(given(section, needs | {key: value}))
    assert with_it[where] != without[where]


def test_the_same_settings_give_the_same_evidence() -> None:
    first = evidence(given("MISC", {}))
    assert evidence.__wrapped__(given("MISC", {})) == first


@pytest.mark.parametrize(
    ("section", "rows"),
    [(MaceArchitecture, ARCHITECTURE), (Training, TRAINING), (General, GENERAL), (ModelMisc, MISC)],
)
def test_no_key_is_forgotten(section: Any, rows: list[tuple[str, Any, str, Any]]) -> None:
    keys = set(section.model_fields)
    elsewhere = FIXED | BY_THEMSELVES
    if section in (General, ModelMisc):
        elsewhere |= NOT_OF_THE_MODEL
    assert keys - elsewhere == {row[0] for row in rows}


def test_the_model_choice_decides_the_section() -> None:
    (own,) = get_args(MaceArchitecture.model_fields["model_choice"].annotation)
    for name in get_args(General.model_fields["model_choice"].annotation):
        chosen = ModelSettings.model_validate({"GENERAL": {"name_exp": "t", "model_choice": name}})
        assert isinstance(chosen.ARCHITECTURE, MaceArchitecture) == (name == own)


def test_the_training_seed_orders_the_batches_of_all_members() -> None:
    settings = ModelSettings.model_validate(json.loads(given("TRAINING", {"seed": 7})))
    train = family_of(settings).graphs(structures(6, seed=0), ELEMENTS, settings)
    first, second = (Member.create(settings, ELEMENTS, "t", seed, train) for seed in (1, 2))
    assert listed(first.model) != listed(second.model)
    assert first._order() == second._order()


def settings_with(misc: dict[str, Any]) -> ModelSettings:
    return ModelSettings.model_validate(json.loads(given("MISC", misc)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would be used")
def test_the_device_is_the_one_asked_for() -> None:
    settings = settings_with({})
    train = family_of(settings).graphs(structures(2, seed=0), ELEMENTS, settings)
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        Member.create(settings_with({"device": "cuda"}), ELEMENTS, "t", 1, train)
