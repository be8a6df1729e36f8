"""Claims about the product's basis: the reduced one, and weights that go from one to the other."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from mace.modules import symmetric_contraction
from mace.tools.cg import U_matrix_real

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace import build
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.mace.model_files import copy_model
from aimspax_core.model.mace.product_basis import (
    couplings,
    full_paths,
    products,
    settings_of,
    take_products,
)
from aimspax_core.model.mace.reduced_basis import reduced_couplings
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8)
CONSTANTS = build.Constants({1: -13.5, 8: -2041.75}, 5.5, 1.75, -0.375)

CUEQUIVARIANCE = {
        (1, 1, "0e"): [0.540302306],
        (1, 1, "1o"): [-0.653643621],
        (1, 2, "0e"): [0.291926582, 0.912509788],
        (1, 2, "1o"): [-0.499450953],
        (1, 3, "0e"): [0.157728605, 0.853954989],
        (1, 3, "1o"): [-0.330502917, -0.800229968],
        (1, 4, "0e"): [0.085221129, 0.652509440, 1.117149553],
        (1, 4, "1o"): [-0.206196593, -0.864732194],
        (2, 2, "0e"): [0.291926582, 0.912509788, 1.083190879],
        (2, 2, "1o"): [-0.499450953, 0.701832555],
        (2, 2, "2e"): [-0.696197229, 0.179655888, 0.317361027],
        (2, 3, "0e"): [0.157728605, 0.853954989, 1.013683652, 0.612088096, 0.325527253],
        (2, 3, "1o"): [-0.330502917, 0.656796693, -0.800229968, -1.226328013, -0.126977824],
        (2, 3, "2e"): [-0.460696317, 0.168127558, 0.296996301, -1.440053512, -0.310423401,
        -1.444714645],
        (3, 1, "0e"): [0.540302306],
        (3, 1, "1o"): [-0.653643621],
        (3, 1, "2e"): [-0.911130262],
        (3, 2, "0e"): [0.291926582, 0.912509788, 1.083190879, 1.418328412],
        (3, 2, "1o"): [-0.499450953, 0.701832555, 0.572384680],
        (3, 2, "2e"): [-0.696197229, 0.179655888, 1.286008903, 0.317361027, 0.820075549],
        (3, 3, "0e"): [0.157728605, 0.853954989, 1.013683652, 1.327315760, 0.612088096,
        -2.148282149, 0.325527253, -0.033067865],
        (3, 3, "1o"): [-0.330502917, 0.656796693, 0.535655354, -0.800229968, -1.289148443,
        -1.226328013, -0.126977824, -1.605751946, -1.014398971, -0.241996355, -0.530940940,
        -0.778274828],
        (3, 3, "2e"): [-0.460696317, 0.168127558, 1.203487056, 0.296996301, 0.767452158,
        -1.440053512, -0.310423401, 0.523090903, -0.559722205, 1.392446725, -1.444714645,
        -2.238297973, -1.734390376, -1.670688738],
}  # fmt: skip
"""MACE's `U_matrix_real` with cuequivariance 0.13.0, by highest degree, copies and irrep.

Each number is one path's tensor, its copies contracted with cos(1), cos(2), ...; last component.
"""


def irreps(highest: int) -> Any:
    from e3nn import o3  # only loads once MACE has been imported

    return o3.Irreps.spherical_harmonics(highest)


def reduced(highest: int, copies: int, out: str) -> torch.Tensor:
    (found,) = {ir for _, ir in type(irreps(0))(out)}
    return reduced_couplings(irreps(highest), found, copies, torch.float64)


@pytest.mark.parametrize(("highest", "copies", "out"), CUEQUIVARIANCE)
def test_the_tensors_are_those_of_cuequivariance(highest: int, copies: int, out: str) -> None:
    tensors = reduced(highest, copies, out)
    vector = torch.cos(torch.arange(1, 1 + (highest + 1) ** 2, dtype=torch.float64))
    for _ in range(copies):
        tensors = torch.tensordot(tensors, vector, ([tensors.ndim - 2], [0]))
    found = np.atleast_2d(tensors.numpy())[-1]
    assert found.tolist() == pytest.approx(CUEQUIVARIANCE[highest, copies, out], abs=1e-8)


def symmetric(tensors: torch.Tensor, copies: int) -> torch.Tensor:
    """The part that is symmetric in the copies; a matrix with a column a path."""
    first = tensors.ndim - 1 - copies
    orders = [(*range(first), *order) for order in permutations(range(first, first + copies))]
    total = sum(tensors.permute(*order, tensors.ndim - 1) for order in orders)
    return (total / len(orders)).reshape(-1, tensors.shape[-1])


@pytest.mark.parametrize(
    ("highest", "copies", "out"), [(2, 3, "1o"), (2, 3, "2e"), (3, 2, "3o"), (1, 4, "0e")]
)
def test_they_span_the_symmetric_part_of_the_full_basis(
    highest: int, copies: int, out: str
) -> None:
    found = reduced(highest, copies, out)
    with number_format("float64"):
        full = U_matrix_real(irreps(highest), out, copies, use_cueq_cg=False)[-1]
    ours, theirs = symmetric(found, copies), symmetric(full, copies)
    torch.testing.assert_close(ours, found.reshape(ours.shape))
    for columns in (ours, theirs, torch.cat([ours, theirs], dim=1)):
        assert torch.linalg.matrix_rank(columns, rtol=1e-9) == found.shape[-1]


def test_where_nothing_couples_there_is_one_path_of_zeros() -> None:
    found = reduced(1, 1, "2e")
    assert found.shape == (5, 4, 1)
    assert not found.any()


@pytest.mark.parametrize(
    ("highest", "copies", "out"),
    [(1, 1, "2e"), (2, 2, "1o"), (2, 3, "2e"), (3, 3, "0e"), (1, 4, "1o")],
)
def test_the_paths_of_the_full_basis_are_counted(highest: int, copies: int, out: str) -> None:
    (found,) = {ir for _, ir in type(irreps(0))(out)}
    full = U_matrix_real(irreps(highest), out, copies, use_cueq_cg=False)[-1]
    assert full_paths(irreps(highest), found, copies) == full.shape[-1]


# ---- models -----------------------------------------------------------------------------------


def settings(dtype: str = "float64", **architecture: Any) -> ModelSettings:
    small = {"num_channels": 4, "max_L": 1, "max_ell": 2, "radial_MLP": [8], "r_max": 3.5}
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "default_dtype": dtype},
            "ARCHITECTURE": small | architecture,
        }
    )


@pytest.fixture(scope="module")
def models() -> dict[bool, Any]:
    """A model in the full basis and one in the reduced basis, of other weights."""
    return {
        choice: build.build(settings(use_reduced_cg=choice), ELEMENTS, CONSTANTS, seed=3)
        for choice in (False, True)
    }


def predictions(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    made = [molecule("H2O"), molecule("H2O2")]
    for index, atoms in enumerate(made):
        atoms.rattle(0.1, rng=np.random.default_rng(index))
    (batch,) = mace_graphs.batches(mace_graphs.graphs(made, ELEMENTS, settings()), 2)
    found = model(batch.to_dict(), compute_force=True)
    return found["energy"].detach(), found["forces"].detach()


def test_a_model_in_the_reduced_basis_has_fewer_weights(models: dict[bool, Any]) -> None:
    paths = {
        choice: [len(one.weights_max[0]) for _, one in products(model)]
        for choice, model in models.items()
    }
    assert paths == {True: [5, 5, 5], False: [11, 21, 11]}
    assert (models[True].use_reduced_cg, models[False].use_reduced_cg) == (True, False)


def test_weights_tell_their_basis(models: dict[bool, Any]) -> None:
    for held, model in models.items():
        for asked in (True, False):
            told = settings_of(settings(use_reduced_cg=asked), model.state_dict())
            assert told == settings(use_reduced_cg=held)


def test_weights_that_are_the_same_in_both_are_of_the_basis_that_is_asked_for() -> None:
    linear = {"max_L": 0, "correlation": 1}
    model = build.build(settings(**linear), ELEMENTS, CONSTANTS, seed=3)
    for asked in (True, False):
        chosen = settings(**linear, use_reduced_cg=asked)
        assert settings_of(chosen, model.state_dict()) == chosen


@pytest.mark.parametrize("source", [True, False], ids=["reduced to full", "full to reduced"])
def test_weights_go_to_the_other_basis_and_back(source: bool, models: dict[bool, Any]) -> None:
    there = build.build(settings(use_reduced_cg=not source), ELEMENTS, CONSTANTS, seed=4)
    back = build.build(settings(use_reduced_cg=source), ELEMENTS, CONSTANTS, seed=5)
    before = models[source]
    for model, other in ((there, before), (back, there)):
        rest = {
            name: weight for name, weight in other.named_parameters() if "contractions" not in name
        }
        model.load_state_dict(rest, strict=False)
        take_products(model, other)
        for found, wanted in zip(predictions(model), predictions(before), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    if source:
        for (_, one), (_, other) in zip(products(back), products(before), strict=True):
            torch.testing.assert_close(one.weights_max, other.weights_max)


def test_weights_in_the_same_basis_are_copied_as_they_are(models: dict[bool, Any]) -> None:
    model = build.build(settings(use_reduced_cg=False), ELEMENTS, CONSTANTS, seed=4)
    take_products(model, models[False])
    for (_, one), (_, other) in zip(products(model), products(models[False]), strict=True):
        assert torch.equal(one.weights_max, other.weights_max)
        assert all(map(torch.equal, one.weights, other.weights))


def test_a_committee_minds_what_each_members_weights_mean(models: dict[bool, Any]) -> None:
    turned = copy_model(models[True])
    with torch.no_grad():
        for _, one in products(turned):  # the opposite couplings with the opposite weights
            one.U_matrix_3.neg_()
            one.weights_max.neg_()
    atoms = molecule("H2O")
    (found,) = Committee(evaluator([copy_model(models[True]), turned])).evaluate([atoms])
    np.testing.assert_allclose(found.member_forces[0], found.member_forces[1], atol=1e-10)


def test_weights_of_other_features_are_refused(models: dict[bool, Any]) -> None:
    wider = build.build(settings(num_channels=8), ELEMENTS, CONSTANTS, seed=4)
    with pytest.raises(ModelError, match="weights of order 1 in products"):
        take_products(wider, models[True])


def test_mace_is_left_as_it_was_whatever_happens() -> None:
    before = symmetric_contraction.U_matrix_real
    with pytest.raises(ZeroDivisionError), couplings(reduced=True):
        assert symmetric_contraction.U_matrix_real is not before
        raise ZeroDivisionError
    assert symmetric_contraction.U_matrix_real is before
