"""Claims about stress: its labels, its losses, and sets that mix molecules and cells."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from mace import modules
from mace.calculators import MACECalculator

from aimspax_core.errors import ModelError
from aimspax_core.model.mace import build
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.schedule import Stage
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8, 29)
TINY = {
    "num_channels": 8,
    "num_interactions": 1,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [8],
    "r_max": 3.5,
}
LOSSES = ("stress", "weighted_stress", "virials", "huber", "universal")


def settings(compute_stress: bool = False, **training: Any) -> ModelSettings:
    general = {"name_exp": "t", "default_dtype": "float64", "compute_stress": compute_stress}
    given = {"GENERAL": general, "ARCHITECTURE": TINY, "TRAINING": {"batch_size": 2} | training}
    return ModelSettings.model_validate(given)


def labelled(atoms: ase.Atoms, seed: int) -> ase.Atoms:
    """Strain and rattle a structure, and label it by EMT."""
    rng = np.random.default_rng(seed)
    if atoms.pbc.all():
        strain = np.identity(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(0.05, rng=rng)
    atoms.calc = EMT()
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    if atoms.pbc.all():
        atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
    atoms.calc = None
    return atoms


def cells(count: int, seed: int = 0) -> list[ase.Atoms]:
    return [labelled(bulk("Cu", cubic=True), seed + i) for i in range(count)]


def waters(count: int, seed: int = 50) -> list[ase.Atoms]:
    return [labelled(molecule("H2O"), seed + i) for i in range(count)]


def member(data: list, chosen: ModelSettings, seed: int = 1) -> Member:
    return Member.create(chosen, ELEMENTS, "t-1", seed, data)


def graphs(structures: list[ase.Atoms]) -> list:
    return mace_graphs.graphs(structures, ELEMENTS, settings())


def loss_of(trained: Member, data: list) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss of one batch and its gradients, by the learner's own function."""
    (batch,) = mace_graphs.batches(data, len(data))
    asked = trained.learner.steps.outputs
    output = trained.model(
        batch.to_dict(),
        training=True,
        compute_virials=asked["virials"],
        compute_stress=asked["stress"],
    )
    loss = trained.learner._loss(ref=batch, pred=output)
    weights = [weight for weight in trained.model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return loss, [torch.zeros(()) if g is None else g for g in gradients]


# ---- labels ---------------------------------------------------------------------------------


def test_virials_follow_from_the_stress_with_maces_sign() -> None:
    """What MACE predicts as virials is what we make of the stress that it predicts."""
    atoms = cells(1)[0]
    data = graphs([atoms])
    trained = member(data, settings())
    (batch,) = mace_graphs.batches(data, 1)
    output = trained.model(batch.to_dict(), compute_virials=True, compute_stress=True)
    atoms.info["REF_stress"] = output["stress"][0].detach().numpy()
    (again,) = graphs([atoms])
    assert again.virials_weight == 1.0
    torch.testing.assert_close(again.virials, output["virials"].detach())


def test_given_virials_count() -> None:
    atoms = cells(1)[0]
    atoms.info["REF_virials"] = np.identity(3)
    (graph,) = graphs([atoms])
    torch.testing.assert_close(graph.virials[0], torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False)])
def test_without_a_volume_there_is_no_stress(pbc: tuple[bool, bool, bool]) -> None:
    atoms = cells(1)[0]
    atoms.pbc = pbc
    (graph,) = graphs([atoms])
    assert graph.stress_weight == graph.virials_weight == 0.0
    assert not graph.stress.any()


def test_a_stress_that_is_not_finite_is_refused() -> None:
    atoms = cells(1)[0]
    atoms.info["REF_stress"][0, 0] = np.nan
    with pytest.raises(ModelError, match="structure 0 is not finite"):
        build.constants_of(graphs([atoms]), ELEMENTS, settings())


# ---- losses ---------------------------------------------------------------------------------

BY_HAND = {
    "stress": modules.WeightedEnergyForcesStressLoss,
    "weighted_stress": modules.WeightedEnergyForcesStressLoss,
    "virials": modules.WeightedEnergyForcesVirialsLoss,
    "huber": modules.WeightedHuberEnergyForcesStressLoss,
    "universal": modules.UniversalLoss,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_labelled_cells_is_maces(loss: str) -> None:
    data = graphs(cells(2))
    weight = "virials_weight" if loss == "virials" else "stress_weight"
    trained = member(data, settings(loss=loss, **{weight: 7.0}))
    (batch,) = mace_graphs.batches(data, 2)
    output = trained.model(batch.to_dict(), compute_virials=True, compute_stress=True)
    with number_format("float64"):
        function = BY_HAND[loss](energy_weight=1.0, forces_weight=1000.0, **{weight: 7.0})
    found, _ = loss_of(trained, data)
    assert found.item() == pytest.approx(function(ref=batch, pred=output).item(), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_molecule_has_no_stress_error(loss: str) -> None:
    """Its gradients are those of energy and forces alone, however much stress weighs."""
    data = graphs(waters(2))
    heavy = member(data, settings(loss=loss, stress_weight=1e6, virials_weight=1e6))
    light = member(data, settings(loss=loss, stress_weight=0.0, virials_weight=0.0))
    found, expected = loss_of(heavy, data), loss_of(light, data)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-12)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("energy", "forces", "share"), [(1.0, 0.0, 1 / 2), (0.0, 1.0, 3 / 7)])
def test_a_molecule_beside_a_cell_has_the_gradients_it_has_alone(
    energy: float, forces: float, share: float
) -> None:
    """MACE's means run over structures and atoms; but for that the cell changes nothing."""
    chosen = settings(loss="stress", energy_weight=energy, forces_weight=forces)
    water, cell = waters(1), cells(1)
    cell[0].info |= {f"config_{name}_weight": 0.0 for name in ("energy", "forces", "stress")}
    trained = member(graphs([*waters(2), *cells(2)]), chosen)
    _, alone = loss_of(trained, graphs(water))
    _, beside = loss_of(trained, graphs([*water, *cell]))
    assert any(gradient.abs().max() > 0 for gradient in alone)
    for mine, theirs in zip(beside, alone, strict=True):
        torch.testing.assert_close(mine, share * theirs, rtol=1e-9, atol=1e-12)


# ---- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mixed_set_trains_and_only_its_cells_are_measured(loss: str) -> None:
    chosen = settings(loss=loss)
    water, cell = waters(3), cells(3)
    water[0].positions += 20.0  # MACE makes up a box of 400 Å for this one
    mixed = graphs([a for pair in zip(water, cell, strict=True) for a in pair])
    trained = member(mixed, chosen)
    both, cells_only, none = (
        trained.learner.validate(trained.learner.steps.batches(data))[1]
        for data in (mixed, graphs(cell), graphs(water))
    )
    assert both["mae_stress"] == pytest.approx(cells_only["mae_stress"], rel=1e-9)
    assert both["rmse_stress"] == pytest.approx(cells_only["rmse_stress"], rel=1e-9)
    assert none["mae_stress"] is None
    assert none["rmse_stress"] is None
    found = trained.train(mixed, mixed, epochs=2, valid_skip=1, scheduler=False)
    assert np.isfinite(found[-1].valid_loss)


def test_compute_stress_measures_what_the_loss_does_not_train() -> None:
    data = graphs(cells(2))
    seen, unseen = member(data, settings(compute_stress=True)), member(data, settings())
    for trained in (seen, unseen):
        trained.train(data, data, epochs=1, valid_skip=1, scheduler=False)
    for mine, theirs in zip(seen.model.parameters(), unseen.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    measured, blind = (
        trained.learner.validate(trained.learner.steps.batches(data))[1]
        for trained in (seen, unseen)
    )
    assert measured["mae_stress"] > 0
    assert blind["mae_stress"] is None


def test_the_stress_metric_is_the_error_that_maces_calculator_makes() -> None:
    structures = cells(3)
    data = graphs(structures)
    trained = member(data, settings(loss="stress"))
    trained.enter(Stage.CONVERGE)
    (found,), _ = trained.converge(data, data, max_epochs=0, patience=1, margin=0.0)
    calculator = MACECalculator(
        models=[trained.best_model()], device="cpu", default_dtype="float64"
    )
    errors = []
    for atoms in structures:
        calculator.calculate(atoms)
        theirs = atoms.copy()
        theirs.calc = calculator
        errors.append(theirs.get_stress(voigt=False) - atoms.info["REF_stress"])
    assert found.mae_stress == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert found.rmse_stress == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-9)


@pytest.mark.slow
def test_a_model_trained_on_stress_predicts_it_better() -> None:
    train, valid = graphs(cells(8)), graphs(cells(4, seed=90))
    errors = {}
    for loss in ("weighted", "stress"):
        chosen = settings(
            compute_stress=True, loss=loss, stress_weight=1e5, forces_weight=10.0, batch_size=4
        )
        trained = member(train, chosen)
        found = trained.train(train, valid, epochs=60, valid_skip=60, scheduler=False)
        errors[loss] = found[-1].mae_stress
    assert errors["stress"] < 0.5 * errors["weighted"]
