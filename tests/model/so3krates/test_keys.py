"""Every key of So3krates and SO3LR does something: ARCHITECTURE, and what a step of training is."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch

from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of
from aimspax_core.settings.families.so3krates import (
    So3kratesArchitecture,
    So3lrArchitecture,
    why_not_installed,
)
from aimspax_core.settings.model import ModelSettings
from tests.model.test_keys import ELEMENTS, evidence, structures

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

BASE: dict[str, dict[str, Any]] = {
    "GENERAL": {"name_exp": "t", "default_dtype": "float64"},
    "ARCHITECTURE": {
        "model_choice": "so3krates", "num_features": 8, "num_heads": 2, "num_layers": 2,
        "degrees": [1, 2], "num_radial_basis_fn": 4, "energy_regression_dim": 8, "r_max": 3.5,
    },
    "TRAINING": {"batch_size": 2, "valid_batch_size": 2},
    "MISC": {},
}  # fmt: skip
FAR = {"model_choice": "so3lr", "r_max_lr": 5.0}

# Key, another value, where it shows, and what else it needs to show.
OF_BOTH: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("activation_fn", "tanh", "predicted", {}),
    ("atomic_energies", {"H": -1.0, "O": -2.0, "Cu": -3.0}, "constants", {}),
    ("cutoff_fn", "cosine", "predicted", {}),
    ("cutoff_p", 6, "predicted", {"cutoff_fn": "polynomial"}),
    ("degrees", [1], "shapes", {}),
    ("energy_activation_fn", "tanh", "predicted", {}),
    ("energy_learn_atomic_type_scales", False, "shapes", {}),
    ("energy_learn_atomic_type_shifts", False, "shapes", {}),
    ("energy_regression_dim", 6, "shapes", {}),
    ("final_mlp_layers", 3, "shapes", {}),
    ("initialize_ev_to_zeros", False, "predicted", {}),
    ("interaction_bias", False, "shapes", {}),
    ("layer_normalization_1", False, "shapes", {}),
    ("layer_normalization_2", False, "shapes", {}),
    ("message_normalization", "identity", "predicted", {}),
    ("num_features", 12, "shapes", {}),
    ("num_heads", 4, "predicted", {}),
    ("num_layers", 3, "shapes", {}),
    ("num_radial_basis_fn", 5, "shapes", {}),
    ("qk_non_linearity", "tanh", "predicted", {}),
    ("r_max", 3.0, "predicted", {}),
    ("radial_basis_fn", "gaussian", "predicted", {}),
    ("residual_mlp_1", False, "shapes", {}),
    ("residual_mlp_2", True, "shapes", {}),
    ("trainable_rbf", True, "shapes", {}),
    ("use_charge_embed", False, "shapes", {}),
    ("use_spin_embed", False, "shapes", {}),
]
OF_SO3LR: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("dispersion_energy_bool", False, "predicted", FAR),
    ("dispersion_energy_cutoff_lr_damping", 1.0, "predicted", FAR),
    ("dispersion_energy_scale", 2.0, "predicted", FAR),
    ("electrostatic_energy_bool", False, "predicted", FAR),
    ("electrostatic_energy_scale", 2.0, "predicted", FAR),
    ("r_max_lr", 4.0, "predicted", FAR),
    ("zbl_repulsion_bool", False, "predicted", FAR),
]
BY_ITSELF = {"solve_energies"}  # see test_members
OF_HEADS = {"use_multihead_model", "num_multihead_heads"}  # see test_heads
ONE_VALUE = {
    *("model_choice", "input_convention", "layers_behave_like_identity_fn_at_init"),
    *("neighborlist_format_lr", "output_is_zero_at_init"),
}
TRAINING: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("amsgrad", False, "weights", {}),
    ("batch_size", 3, "weights", {}),
    ("clip_grad", None, "weights", {}),
    ("config_type_weights", {"Default": 1.0, "rare": 9.0}, "valid_loss", {}),
    ("ema", False, "averages", {}),
    ("ema_decay", 0.5, "averages", {}),
    ("energy_weight", 100.0, "weights", {}),
    ("forces_weight", 10.0, "weights", {}),
    ("loss", "stress", "weights", {}),
    ("lr", 0.02, "lr", {}),
    ("optimizer", "adamw", "weights", {"weight_decay": 0.1}),
    ("seed", 7, "weights", {}),
    ("stress_weight", 1e6, "weights", {"loss": "stress"}),
    ("valid_batch_size", 1, "valid_loss", {}),
    ("weight_decay", 0.1, "weights", {}),
]
GENERAL = [("compute_stress", True, "mae_stress", {}), ("default_dtype", "float32", "dtype", {})]


@cache
def built(given: str) -> dict[str, Any]:
    """What can be seen of a model that is built under these settings (JSON)."""
    settings = ModelSettings.model_validate(json.loads(given))
    family = family_of(settings)
    examples = structures(2, seed=0)
    constants = family.constants_of(family.graphs(examples, ELEMENTS, settings), ELEMENTS, settings)
    model = family.build(settings, ELEMENTS, constants, 1)
    shapes = [
        (name, tuple(weight.shape))
        for name, weight in model.named_parameters()
        if weight.requires_grad
    ]
    with torch.no_grad():  # as after training, when layers that begin as zero do something
        for weight in model.parameters():
            weight += 0.1 * torch.randn(
                weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(1)
            )
    predictions = Committee(family.evaluator([model])).evaluate(examples)
    return {
        "shapes": shapes,
        "constants": constants.atomic_energies,
        "predicted": [one.forces.round(9).tolist() for one in predictions],
    }


def given(section: str, changes: dict[str, Any]) -> str:
    return json.dumps(BASE | {section: BASE[section] | changes})


@pytest.mark.parametrize(
    ("key", "value", "where", "needs"), OF_BOTH + OF_SO3LR, ids=lambda value: str(value)[:20]
)
def test_a_key_of_the_architecture_changes_what_it_should(
    key: str, value: Any, where: str, needs: dict[str, Any]
) -> None:
    without = built(given("ARCHITECTURE", needs))
    assert built(given("ARCHITECTURE", needs | {key: value}))[where] != without[where]


@pytest.mark.parametrize(
    ("section", "key", "value", "where", "needs"),
    [
        pytest.param(section, *row, id=f"{section}.{row[0]}")
        for section, rows in (("TRAINING", TRAINING), ("GENERAL", GENERAL))
        for row in rows
    ],
)
def test_a_key_of_training_changes_what_it_should(
    section: str, key: str, value: Any, where: str, needs: dict[str, Any]
) -> None:
    without = evidence(given(section, needs))
    assert evidence(given(section, needs | {key: value}))[where] != without[where]


def test_no_key_of_the_architecture_is_forgotten() -> None:
    both, more = ({row[0] for row in rows} for rows in (OF_BOTH, OF_SO3LR))
    both |= BY_ITSELF
    assert both | ONE_VALUE - {"neighborlist_format_lr"} == set(So3kratesArchitecture.model_fields)
    more |= OF_HEADS
    assert both | more | ONE_VALUE == set(So3lrArchitecture.model_fields)
