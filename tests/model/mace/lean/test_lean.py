"""Claims about the lean network: it is MACE, in training and in committees."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.model.committee import Committee
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.lean import Lean, LeanEvaluator, why_not
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
CONSTANTS = Constants({1: -1.1, 6: -2.3, 8: -3.7}, avg_num_neighbors=5.3, scale=1.7, shift=0.2)
TINY = {
    "num_channels": 3,
    "max_L": 0,
    "max_ell": 2,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [5, 4],
    "r_max": 3.5,
}
PLAIN, RESIDUAL, DENSITY, DENSITY_RESIDUAL = (
    f"RealAgnostic{kind}InteractionBlock" for kind in ("", "Residual", "Density", "DensityResidual")
)


def settings(dtype: str = "float64", **architecture: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "default_dtype": dtype, "compute_stress": True},
            "ARCHITECTURE": TINY | architecture,
        }
    )


def model(seed: int = 1, dtype: str = "float64", **architecture: Any) -> torch.nn.Module:
    return build(settings(dtype, **architecture), ELEMENTS, CONSTANTS, seed)


def structures() -> list[Atoms]:
    """A molecule, a cell smaller than the cutoff, an atom without neighbours, a slab."""
    slab = bulk("CO", "rocksalt", 4.2)
    slab.center(vacuum=6.0, axis=2)
    slab.pbc = (True, True, False)
    made = [molecule("CH3OH"), bulk("C", "diamond", 3.6), Atoms("O", pbc=False), slab]
    rng = np.random.default_rng(0)
    for atoms in made:
        atoms.rattle(0.1, rng=rng)
    return made


def batch(chosen: list[Atoms], dtype: str = "float64") -> Any:
    made = mace_graphs.graphs(chosen, ELEMENTS, settings(dtype))
    return mace_graphs.batches(made, len(made))[0]


def trained_on(called: Any, owner: torch.nn.Module, given: Any, dtype: str) -> dict[str, Any]:
    """Outputs, and gradients of a loss of all of them."""
    owner.zero_grad()
    with mace_graphs.number_format(dtype):
        found = called(
            given.to_dict(),
            training=True,
            compute_force=True,
            compute_virials=True,
            compute_stress=True,
        )
        generator = torch.Generator().manual_seed(0)
        loss = 0.0
        for name in ("energy", "forces", "virials", "stress"):
            part = found[name]
            loss = loss + (part * torch.randn(part.shape, generator=generator)).sum()
        loss.backward()
    kept = {name: found[name].detach() for name in ("energy", "forces", "virials", "stress")}
    return kept | {name: weight.grad for name, weight in owner.named_parameters()}


def alike(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    for name, value in one.items():
        assert (value is None) == (other[name] is None), name
        if value is not None:
            assert (value - other[name]).abs().max() <= tolerance * value.abs().max(), name


ARCHITECTURES = [
    {},
    {"max_L": 1, "max_ell": 3, "correlation": 3},
    {"max_L": 2, "num_interactions": 3},
    {"interaction_first": PLAIN, "interaction": PLAIN, "max_L": 1},
    {"interaction_first": DENSITY, "interaction": DENSITY_RESIDUAL, "max_L": 1},
    {"interaction_first": DENSITY_RESIDUAL, "interaction": DENSITY},
    {"num_channels": 40},
    {"model": "MACE", "num_interactions": 1},
    {"gate": "tanh", "MLP_irreps": "7x0e"},
    {"gate": "None", "radial_type": "gaussian"},
    {"radial_type": "chebyshev", "correlation": 1, "max_ell": 1},
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_outputs_and_gradients_are_those_of_mace(architecture: dict[str, Any]) -> None:
    mace = model(**architecture)
    given = batch(structures())
    theirs = trained_on(mace, mace, given, "float64")
    ours = trained_on(Lean(mace), mace, given, "float64")
    alike(theirs, ours, 1e-10)


def test_committees_predict_what_those_of_mace_predict() -> None:
    models = [model(seed, max_L=1) for seed in range(3)]
    theirs = Committee(MaceEvaluator(copy.deepcopy(models))).evaluate(structures(), stress=True)
    ours = Committee(LeanEvaluator(models)).evaluate(structures(), stress=True)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(other.member_energies, one.member_energies, atol=1e-12)
        np.testing.assert_allclose(other.member_forces, one.member_forces, atol=1e-12)
        if one.stress is not None:
            np.testing.assert_allclose(other.stress, one.stress, atol=1e-12)


def test_what_cannot_be_lean_says_why() -> None:
    assert "AttResidual" in str(
        why_not(model(interaction="RealAgnosticAttResidualInteractionBlock"))
    )
