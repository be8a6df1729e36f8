"""Claims about the lean network: it is MACE, in training and in committees."""

from __future__ import annotations

import copy
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import Phase, given, strategies
from hypothesis import settings as settings_of_hypothesis
from mace.tools.train import train_one_epoch
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.build import Constants, build, set_constants
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.lean import Lean, LeanEvaluator, evaluator, why_not
from aimspax_core.model.mace.lean.harmonics import harmonics, polynomials
from aimspax_core.model.mace.steps import MaceSteps
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.families.mace import Interaction, MaceArchitecture
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
    with number_format(dtype):
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
    """Hold tensors against the largest number of each; one below 1e-4 may be rounding of 0."""
    for name, value in one.items():
        assert (value is None) == (other[name] is None), name
        if value is not None:
            assert (value - other[name]).abs().max() <= tolerance * max(value.abs().max(), 1e-4), (
                name
            )


ARCHITECTURES = [
    {},
    {"max_L": 1, "max_ell": 3, "correlation": 3, "use_reduced_cg": True},
    {"max_L": 2, "num_interactions": 3},
    {"interaction_first": PLAIN, "interaction": PLAIN, "max_L": 1},
    {"interaction_first": DENSITY, "interaction": DENSITY_RESIDUAL, "max_L": 1},
    {"interaction_first": DENSITY_RESIDUAL, "interaction": DENSITY},
    {"num_channels": 40, "max_L": 1},
    {"model": "MACE", "num_interactions": 1, "correlation": 4, "max_ell": 1},
    {"gate": "tanh", "MLP_irreps": "7x0e", "num_cutoff_basis": 7},
    {"gate": "None", "radial_type": "gaussian", "num_interactions": 3},
    {"radial_type": "chebyshev", "correlation": 1, "max_ell": 1, "gate": "abs"},
    {"max_L": 2, "max_ell": 1},  # no path to L = 2 of the first order
]
"""Every value of every key that shapes the network, in few models, which are slow to build."""


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_outputs_and_gradients_are_those_of_mace(architecture: dict[str, Any]) -> None:
    mace = model(**architecture)
    given = batch(structures())
    theirs = trained_on(mace, mace, given, "float64")
    ours = trained_on(Lean(mace), mace, given, "float64")
    alike(theirs, ours, 1e-10)


CHOICES: dict[str, list[Any]] = {
    "num_channels": [1, 2, 5],
    "max_L": [0, 1, 2],
    "max_ell": [1, 2, 3],
    "correlation": [1, 2, 3],
    "num_interactions": [1, 2, 3],
    "num_radial_basis": [2, 5],
    "radial_MLP": [[3], [4, 6]],
    "radial_type": ["bessel", "gaussian", "chebyshev"],
    "interaction_first": [PLAIN, RESIDUAL, DENSITY, DENSITY_RESIDUAL],
    "interaction": [PLAIN, RESIDUAL, DENSITY, DENSITY_RESIDUAL],
    "model": ["MACE", "ScaleShiftMACE"],
    "gate": ["silu", "tanh", "abs", "None"],
    "MLP_irreps": ["1x0e", "5x0e"],
    "use_reduced_cg": [False, True],
}


@settings_of_hypothesis(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])
@given(data=strategies.data())
def test_any_architecture_of_the_settings_on_any_structures(data: strategies.DataObject) -> None:
    chosen = {key: data.draw(strategies.sampled_from(of), key) for key, of in CHOICES.items()}
    some = data.draw(
        strategies.lists(strategies.sampled_from(structures()), min_size=1, max_size=3)
    )
    mace = model(**chosen)
    lean = Lean(mace)
    for one in (batch(some), batch(some[:1])):
        alike(trained_on(mace, mace, one, "float64"), trained_on(lean, mace, one, "float64"), 1e-10)


@pytest.fixture(scope="module")
def single() -> torch.nn.Module:
    return model(dtype="float32", max_L=1)


def test_single_precision_agrees_to_rounding(single: torch.nn.Module) -> None:
    given = batch(structures(), "float32")
    theirs = trained_on(single, single, given, "float32")
    alike(theirs, trained_on(Lean(single), single, given, "float32"), 2e-5)


def test_renewed_constants_are_read(single: torch.nn.Module) -> None:
    mace, given = copy.deepcopy(single), batch(structures(), "float32")
    lean = Lean(mace)
    before = lean(given.to_dict())
    set_constants(mace, Constants({1: -2.0, 6: 0.5, 8: 1.0}, 7.7, 0.9, -0.3), ELEMENTS)
    theirs, ours = mace(given.to_dict()), lean(given.to_dict())
    assert (before["energy"] - ours["energy"]).abs().max() > 0.1
    torch.testing.assert_close(ours["energy"], theirs["energy"])
    torch.testing.assert_close(ours["forces"], theirs["forces"], rtol=1e-4, atol=1e-5)


def test_what_was_not_asked_for_is_not_there(single: torch.nn.Module) -> None:
    given = batch(structures()[:2], "float32")
    found = Lean(single)(given.to_dict(), compute_force=False)
    assert [name for name, value in found.items() if value is not None] == ["energy"]
    torch.testing.assert_close(
        found["energy"].detach(), single(given.to_dict(), compute_force=False)["energy"].detach()
    )


@pytest.mark.parametrize("alone", [[0], [2], [2, 2]])
def test_atoms_that_see_nobody_train(single: torch.nn.Module, alone: list[int]) -> None:
    given = batch([structures()[i] for i in alone], "float32")
    theirs = trained_on(single, single, given, "float32")
    alike(theirs, trained_on(Lean(single), single, given, "float32"), 2e-5)


class Nothing:
    """In the place of a logger of metrics."""

    def log(self, metrics: dict[str, Any]) -> None:
        assert np.isfinite(metrics["loss"])


def test_a_hundred_steps_of_training_lead_to_the_same_weights() -> None:
    chosen = settings()
    rng = np.random.default_rng(1)
    data = []
    for name in ("H2O", "CO2"):
        atoms = molecule(name)
        atoms.rattle(0.05, rng=rng)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -9.0, rng.normal(size=(3, 3))
        data.append(atoms)
    loader = mace_graphs.batches(mace_graphs.graphs(data, ELEMENTS, chosen), 1)
    first = model()
    ends = []
    for called, owner in ((lambda one: one, copy.deepcopy(first)), (Lean, first)):
        steps = MaceSteps(chosen)
        ema = ExponentialMovingAverage(owner.parameters(), decay=0.99)
        optimizer, loss = steps.optimizer(owner), steps.loss()
        with number_format("float64"):
            for _ in range(50):
                train_one_epoch(
                    model=called(owner),
                    loss_fn=loss,
                    data_loader=loader,
                    optimizer=optimizer,
                    epoch=0,
                    output_args=steps.outputs,
                    max_grad_norm=10.0,
                    ema=ema,
                    logger=Nothing(),
                    device=torch.device("cpu"),
                    distributed=False,
                )
        ends.append((dict(owner.named_parameters()), ema.shadow_params))
    (theirs, their_ema), (ours, our_ema) = ends
    for name, weight in theirs.items():
        assert (weight - ours[name]).abs().max() <= 1e-9 * weight.abs().max(), name
    for one, other in zip(their_ema, our_ema, strict=True):
        assert (one - other).abs().max() <= 1e-9 * one.abs().max()


@pytest.fixture(scope="module")
def two() -> list[torch.nn.Module]:
    """Two models that differ in all their weights."""
    one = model(max_L=1)
    other = copy.deepcopy(one)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return [one, other]


@pytest.mark.parametrize("stacked", [True, False])
def test_committees_predict_what_those_of_mace_predict(
    stacked: bool, two: list[torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "STACKED", math.inf if stacked else -1)
    theirs = Committee(MaceEvaluator(copy.deepcopy(two))).evaluate(structures(), stress=True)
    ours = Committee(LeanEvaluator(copy.deepcopy(two))).evaluate(structures(), stress=True)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(other.member_energies, one.member_energies, atol=1e-12)
        np.testing.assert_allclose(other.member_forces, one.member_forces, atol=1e-12)
        if one.stress is not None:
            np.testing.assert_allclose(other.stress, one.stress, atol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_structure_without_energy_spoils_no_other_of_its_batch(
    two: list[torch.nn.Module], first: bool
) -> None:
    fused = molecule("CH3OH")
    fused.positions[1] = fused.positions[0]
    sound = [molecule("H2O"), Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])]
    batch = [fused, *sound] if first else [*sound, fused]
    committee = Committee(LeanEvaluator(copy.deepcopy(two)))
    found = committee.evaluate(batch)
    assert math.isnan(found.pop(0 if first else -1).energy)
    for one, alone in zip(found, committee.evaluate(sound), strict=True):
        assert one.energy == pytest.approx(alone.energy, abs=1e-10)
        np.testing.assert_allclose(one.forces, alone.forces, atol=1e-10)


def test_a_committee_of_several_shapes_has_no_lean_form(two: list[torch.nn.Module]) -> None:
    with pytest.raises(ModelError, match="architecture"):
        LeanEvaluator([copy.deepcopy(two[0]), model()])


def test_unknown_elements_are_named(two: list[torch.nn.Module]) -> None:
    with pytest.raises(ModelError, match="16"):
        Committee(LeanEvaluator(copy.deepcopy(two))).evaluate([Atoms("S")])


FALLS_BACK = {
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
}


def test_two_interactions_and_nothing_else_of_the_settings_fall_back() -> None:
    every = get_args(Interaction)
    lean = {PLAIN, RESIDUAL, DENSITY, DENSITY_RESIDUAL}
    assert set(every) == lean | FALLS_BACK
    for name in sorted(FALLS_BACK):
        mace = model(interaction=name)
        assert name in str(why_not(mace))
        with pytest.raises(ModelError, match=name):
            Lean(mace)
    covered = {key for architecture in ARCHITECTURES for key in architecture} | set(CHOICES)
    free = {  # what says nothing about the network's shape
        "atomic_energies", "compute_avg_num_neighbors", "model_choice", "r_max", "scaling",
        "solve_energies",
    }  # fmt: skip
    assert set(MaceArchitecture.model_fields) == covered | free


def test_what_other_programs_make_of_mace_falls_back() -> None:
    mace: Any = model()
    mace.pair_repulsion = True
    assert why_not(mace) is not None
    del mace.pair_repulsion
    mace.heads = ["one", "two"]
    assert why_not(mace) is not None
    assert why_not(torch.nn.Linear(1, 1)) is not None
    mace = model()
    weights = mace.radial_embedding.bessel_fn.bessel_weights
    del mace.radial_embedding.bessel_fn.bessel_weights
    mace.radial_embedding.bessel_fn.bessel_weights = torch.nn.Parameter(weights)
    assert "basis" in str(why_not(mace))


@pytest.mark.parametrize("max_ell", [1, 5])
def test_harmonics_and_their_derivatives_are_those_of_e3nn(max_ell: int) -> None:
    from e3nn import o3  # loads its tables once MACE is imported

    torch.manual_seed(0)
    vectors = torch.randn(7, 3, dtype=torch.float64).requires_grad_()
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    up_to = polynomials(max_ell, torch.float64, vectors.device)
    values, slopes = harmonics(vectors.detach(), lengths.detach(), up_to)
    wanted = o3.spherical_harmonics(list(range(max_ell + 1)), vectors, True, "component")
    torch.testing.assert_close(values, wanted, rtol=1e-12, atol=1e-12)
    for index in range(1, (max_ell + 1) ** 2):
        (slope,) = torch.autograd.grad(wanted[:, index].sum(), vectors, retain_graph=True)
        torch.testing.assert_close(slopes[:, :, index], slope, rtol=1e-12, atol=1e-12)
