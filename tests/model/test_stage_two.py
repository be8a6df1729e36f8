"""Claims about MACE's stage two (SWA) at the end of a convergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT
from mace import modules
from mace.tools.train import evaluate

from aimspax_core.model.learner import Metrics
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.schedule import Budget, Stage, start_of_stage_two
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
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


def settings(**training: Any) -> ModelSettings:
    chosen = {"batch_size": 3, "swa": True} | training
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "default_dtype": "float64"},
            "ARCHITECTURE": TINY,
            "TRAINING": chosen,
        }
    )


def structures(count: int, seed: int) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        atoms = molecule(["CH3OH", "H2O", "CO2"][index % 3])
        atoms.rattle(0.08, rng=np.random.default_rng(seed + index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


TRAIN = mace_graphs.graphs(structures(6, seed=0), ELEMENTS, settings())
VALID = mace_graphs.graphs(structures(3, seed=20), ELEMENTS, settings())


def converging(**training: Any) -> Member:
    member = Member.create(settings(**training), ELEMENTS, "t-1", 1, TRAIN)
    member.enter(Stage.CONVERGE)
    return member


def converge(member: Member, **changes: Any) -> tuple[list[Metrics], bool]:
    asked = {"max_epochs": 6, "patience": 50, "margin": 0.0} | changes
    return member.converge(TRAIN, VALID, **asked)


def loss_of(model: torch.nn.Module, energy: float, forces: float) -> float:
    """MACE's validation loss of a model, by a path of its own."""
    with number_format("float64"):
        loss = modules.WeightedEnergyForcesLoss(energy_weight=energy, forces_weight=forces)
        outputs = {"forces": True, "virials": False, "stress": False}
        batches = mace_graphs.batches(VALID, 1)
        return float(evaluate(model, loss, batches, outputs, torch.device("cpu"))[0])


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_stage_two_has_maces_weights_and_learning_rate() -> None:
    member = converging(start_swa=4, lr=0.02)
    metrics, finished = converge(member)
    assert finished
    assert [m.epoch for m in metrics] == list(range(7))
    assert [m.lr for m in metrics[1:]] == [0.02] * 4 + [0.001] * 2  # swa_lr of MACE
    assert member.progress.stage_two_from == 4
    # swa_energy_weight and swa_forces_weight of MACE
    assert metrics[-1].valid_loss == pytest.approx(loss_of(member.averaged_model(), 1000.0, 100.0))


def test_the_steps_of_stage_two_are_those_of_mace_by_hand() -> None:
    ours, reference = converging(start_swa=2, ema=False), converging(swa=False, ema=False)
    converge(ours, max_epochs=3)
    converge(reference, max_epochs=2)
    learner = reference.learner
    with number_format("float64"):
        learner._loss = modules.WeightedEnergyForcesLoss(energy_weight=1000.0, forces_weight=100.0)
    for group in learner.optimizer.param_groups:
        group["lr"] = 1e-3
    learner.train_epoch(TRAIN, reference._order())
    assert same(ours.model, reference.model)


def test_it_begins_after_three_quarters_if_not_said_otherwise() -> None:
    assert start_of_stage_two(settings(), 500) == 375
    assert start_of_stage_two(settings(start_swa=100), 500) == 100
    assert start_of_stage_two(settings(swa=False), 500) is None


def test_a_start_beyond_the_end_means_none() -> None:
    assert start_of_stage_two(settings(start_swa=500), 500) is None


def test_the_best_weights_are_those_of_stage_two() -> None:
    member = converging(start_swa=3, energy_weight=1e-3, forces_weight=1e-3)
    metrics, _ = converge(member, max_epochs=8)
    first, second = metrics[:4], metrics[4:]
    assert min(m.valid_loss for m in first) < min(m.valid_loss for m in second)  # or no proof
    best = min(second, key=lambda found: found.valid_loss)
    assert member.best_metrics == best
    assert loss_of(member.best_model(), 1000.0, 100.0) == pytest.approx(best.valid_loss)


def test_until_its_first_validation_the_best_is_of_stage_one() -> None:
    member = converging(start_swa=2)
    converge(member, valid_skip=2, max_epochs=8, budget=Budget(0.0, step=3))
    assert (member.epoch, member.progress.stage_two_from) == (3, 2)
    assert member.best_metrics is not None
    assert member.best_metrics.epoch <= 2
    converge(member, valid_skip=2, max_epochs=8, budget=Budget(0.0))
    assert member.best_metrics.epoch == 4


def test_patience_in_stage_one_begins_stage_two_at_once_and_for_as_long() -> None:
    member = converging(start_swa=20)
    # Nothing is better by so much: stage one's first validation counts, then patience runs out.
    metrics, finished = converge(member, max_epochs=23, patience=2, margin=1e9)
    assert finished
    assert member.progress.stage_two_from == 3
    assert [m.lr for m in metrics[1:]] == [0.01] * 3 + [0.001] * 3
    assert member.epoch == 3 + (23 - 20)


def test_patience_in_stage_two_ends_the_convergence() -> None:
    member = converging(start_swa=2)
    _, finished = converge(member, max_epochs=50, patience=2, margin=1e9)
    assert finished
    assert (member.progress.stage_two_from, member.epoch) == (2, 2 + 1 + 2)


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("scheduler", ["ReduceLROnPlateau", "ExponentialLR"])
def test_resumed_at_every_epoch_it_equals_one_in_one_go(
    ema: bool, scheduler: str, tmp_path: Path
) -> None:
    chosen = {"start_swa": 3, "ema": ema, "scheduler": scheduler, "scheduler_patience": 0}
    whole, parts = converging(**chosen), converging(**chosen)
    expected, _ = converge(whole)
    found: list[Metrics] = []
    finished = False
    while not finished:
        more, finished = converge(parts, budget=Budget(0.0))
        found += more
        parts.save(tmp_path / "member.pt")
        parts = Member.load(tmp_path / "member.pt", parts.settings)
    assert [(m.epoch, m.valid_loss, m.lr) for m in found] == [
        (m.epoch, m.valid_loss, m.lr) for m in expected
    ]
    assert parts.progress.stage_two_from == whole.progress.stage_two_from == 3
    assert same(parts.model, whole.model)
    assert same(parts.best_model(), whole.best_model())
    assert converge(parts) == ([], True)


def test_the_next_stage_begins_without_it() -> None:
    member = converging(start_swa=1, lr=0.02)
    converge(member, max_epochs=2)
    best = member.best_model()
    member.enter(Stage.ACTIVE)
    assert member.progress.stage_two_from is None
    assert same(member.model, best)
    (metrics,) = member.train(TRAIN, VALID, epochs=1, valid_skip=1, scheduler=False)
    assert metrics.lr == 0.02
    assert metrics.valid_loss == pytest.approx(loss_of(member.averaged_model(), 1.0, 1000.0))


def test_another_try_in_stage_two_has_a_fresh_optimizer_and_stays_in_it() -> None:
    member = converging(start_swa=3, lr=0.02)
    converge(member, budget=Budget(0.0))
    while member.epoch < 4:
        converge(member, budget=Budget(0.0))
    loss = member.learner._loss
    member.try_again(1)
    assert member.progress.stage_two_from == 3
    assert not member.learner.optimizer.state
    assert type(member.learner._loss) is type(loss)
    (metrics, *_), _ = converge(member, budget=Budget(0.0))
    assert (metrics.epoch, metrics.lr) == (5, 0.001)
    member.try_again(0)
    assert member.learner.optimizer.state, "what has not diverged stays as it is"
