"""Sections of So3krates and SO3LR: defaults of aims-PAX 0.2, and what is told before launch."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from aimspax_core.settings.engines import So3lrFoundation
from aimspax_core.settings.families import so3krates
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.model import ModelSettings

# The published table of release 0.2, "So3kratesArchitectureSettings" and what SO3LR adds.
OF_BOTH = {
    "r_max": 4.5, "num_features": 128, "num_radial_basis_fn": 32, "degrees": [1, 2, 3, 4],
    "num_heads": 4, "num_layers": 3, "final_mlp_layers": 2, "energy_regression_dim": 128,
    "message_normalization": "avg_num_neighbors", "initialize_ev_to_zeros": True,
    "radial_basis_fn": "bernstein", "trainable_rbf": False,
    "energy_learn_atomic_type_shifts": True, "energy_learn_atomic_type_scales": True,
    "layer_normalization_1": True, "layer_normalization_2": True, "residual_mlp_1": True,
    "residual_mlp_2": False, "use_charge_embed": True, "use_spin_embed": True,
    "interaction_bias": True, "qk_non_linearity": "identity", "cutoff_fn": "phys", "cutoff_p": 5,
    "activation_fn": "silu", "energy_activation_fn": "identity",
    "layers_behave_like_identity_fn_at_init": False, "output_is_zero_at_init": False,
    "input_convention": "positions",
}  # fmt: skip
OF_SO3LR = {
    "zbl_repulsion_bool": True, "electrostatic_energy_bool": True,
    "electrostatic_energy_scale": 4.0, "dispersion_energy_bool": True,
    "dispersion_energy_scale": 1.2, "dispersion_energy_cutoff_lr_damping": 2.0, "r_max_lr": None,
    "neighborlist_format_lr": "sparse", "use_multihead_model": False, "num_multihead_heads": None,
}  # fmt: skip


OURS = {"model_choice", "atomic_energies", "solve_energies"}


def settings(name: str, sections: dict[str, Any] | None = None, **keys: Any) -> ModelSettings:
    given = {"GENERAL": {"name_exp": "t"}, "ARCHITECTURE": {"model_choice": name, **keys}}
    return ModelSettings.model_validate(given | (sections or {}))


def mistakes(asked: ModelSettings, elements: tuple[int, ...] = (1, 8)) -> list[str]:
    """What is told where models run elsewhere; of the package see below."""
    return list(asked.family.mistakes(asked, elements, False))


@pytest.mark.parametrize(
    ("name", "defaults"), [("so3krates", OF_BOTH), ("so3lr", OF_BOTH | OF_SO3LR)]
)
def test_names_and_defaults_are_those_of_release_0_2(name: str, defaults: dict[str, Any]) -> None:
    found = settings(name).ARCHITECTURE.model_dump(exclude=OURS)
    assert found == defaults


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("degrees", []), ("degrees", [2, 1]), ("degrees", [1, 1]), ("activation_fn", "sine"),
        ("output_is_zero_at_init", True), ("num_heads", 0), ("r_max_lr", 12.0),
        ("dispersion_energy_cutoff_lr_damping", 2.0),
    ],
)  # fmt: skip
def test_what_the_network_cannot_be_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        settings("so3krates", **{key: value})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, ["ARCHITECTURE.r_max_lr"]),
        ({"r_max_lr": 3.0}, ["ARCHITECTURE.r_max_lr"]),
        ({"r_max_lr": 12.0}, []),
        (
            {"r_max_lr": 5.0, "dispersion_energy_cutoff_lr_damping": 6.0},
            ["ARCHITECTURE.dispersion_energy_cutoff_lr_damping"],
        ),
        ({"electrostatic_energy_bool": False}, ["ARCHITECTURE.r_max_lr"]),
        ({"electrostatic_energy_bool": False, "dispersion_energy_bool": False}, []),
        ({"r_max_lr": 12.0, "num_heads": 3}, ["ARCHITECTURE.num_heads"]),
        ({"r_max_lr": 12.0, "degrees": [1, 2, 3]}, ["ARCHITECTURE.degrees"]),
        ({"r_max_lr": 12.0, "atomic_energies": {"H": 0.0}}, ["ARCHITECTURE.atomic_energies"]),
    ],
)
def test_what_does_not_fit_together_is_told(keys: dict[str, Any], told: list[str]) -> None:
    assert [one.split(":")[0] for one in mistakes(settings("so3lr", **keys))] == told


@pytest.mark.parametrize("value", [0.0, 13.0])
def test_dispersion_fades_out_over_some_of_the_long_range(value: float) -> None:
    """Over nothing its forces are no numbers, in the package."""
    with pytest.raises(ValidationError, match="dispersion_lr_damping"):
        So3lrFoundation(r_max_lr=12.0, dispersion_lr_damping=value)
    assert So3lrFoundation(r_max_lr=14.0, dispersion_lr_damping=13.0).dispersion_lr_damping == 13.0


def test_the_network_has_such_a_width_too() -> None:
    with pytest.raises(ValidationError, match="dispersion_energy_cutoff_lr_damping"):
        settings("so3lr", r_max_lr=12.0, dispersion_energy_cutoff_lr_damping=0.0)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("TRAINING", "swa", True), ("MISC", "kernel", "lean"), ("MISC", "enable_cueq", True)],
)
def test_what_belongs_to_mace_is_told(section: str, key: str, value: Any) -> None:
    (told,) = mistakes(settings("so3krates", {section: {key: value}}))
    assert told.startswith(f"{section}.{key}:")


def test_elements_that_the_package_does_not_know_are_told() -> None:
    told = row_of("so3lr").elements_missing(None, (1, 6, 14))
    assert told is not None
    assert "Si" in told
    assert row_of("so3lr").elements_missing(None, so3krates.FOUNDATION_ELEMENTS) is None


def test_the_missing_package_is_named_before_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(so3krates, "PACKAGE", "no_such_package")
    asked = settings("so3krates")
    (told,) = row_of("so3krates").mistakes(asked, (1,), True)
    assert told.startswith("ARCHITECTURE.model_choice:")
    assert so3krates.EXTRA in told
    assert mistakes(asked) == []
