"""Claims about members in training: steps, stages, resuming, patience and the best epoch."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from mace.tools.train import evaluate

from aimspax_core.errors import DamagedError, DivergedError, ModelError
from aimspax_core.model.learner import Metrics
from aimspax_core.model.mace import build, model_files
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.schedule import Budget, Stage
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
TINY = {
    "num_channels": 8,
    "num_interactions": 1,  # built in half the time
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [8],
    "r_max": 3.5,
}


def settings(general: dict[str, Any] | None = None, **training: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"} | (general or {}),
            "ARCHITECTURE": TINY,
            "TRAINING": {"batch_size": 3} | training,
        }
    )


def structures(count: int, seed: int = 0) -> list[ase.Atoms]:
    """Rattled molecules with EMT's labels."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        atoms = molecule(["CH3OH", "H2O", "CO2"][index % 3])
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


TRAIN = mace_graphs.graphs(structures(8, seed=0), ELEMENTS, settings())
VALID = mace_graphs.graphs(structures(5, seed=1), ELEMENTS, settings())


def member(seed: int = 1, data: list | None = None, **training: Any) -> Member:
    return Member.create(settings(**training), ELEMENTS, f"tiny-{seed}", seed, data or TRAIN)


def train(trained: Member, epochs: int, **changes: Any) -> list[Metrics]:
    asked = {"valid_skip": 1, "scheduler": False} | changes
    return trained.train(TRAIN, VALID, epochs=epochs, **asked)


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return equal(weights(left), weights(right))


def validation_loss(model: torch.nn.Module, valid: list = VALID) -> float:
    """MACE's validation loss of `model` by a path of its own."""
    with number_format("float64"):
        loss = build.modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1000.0)
        outputs = {"forces": True, "virials": False, "stress": False}
        batches = mace_graphs.batches(valid, 5)
        return float(evaluate(model, loss, batches, outputs, torch.device("cpu"))[0])


# ---- one step -------------------------------------------------------------------------------


def test_one_step_is_the_weighted_loss_clipped_and_fed_to_adam() -> None:
    ours = member()
    by_hand = model_files.copy_model(ours.model)
    (batch,) = mace_graphs.batches(TRAIN[:3], 3)
    output = by_hand(batch.to_dict(), training=True, compute_force=True)
    atoms = batch.ptr[1:] - batch.ptr[:-1]
    energy = torch.mean(((output["energy"] - batch.energy) / atoms) ** 2)
    forces = torch.mean((output["forces"] - batch.forces) ** 2)
    loss = 1.0 * energy + 1000.0 * forces
    loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 10.0)
    decayed = ("linear.weight", "skip_tp_full.weight")
    decay, plain = [], []
    for name, weight in by_hand.named_parameters():
        in_block = name.startswith("interactions") and any(part in name for part in decayed)
        (decay if in_block or name.startswith("products") else plain).append(weight)
    groups = [{"params": decay, "weight_decay": 5e-7}, {"params": plain, "weight_decay": 0.0}]
    torch.optim.Adam(groups, lr=0.01, amsgrad=True).step()

    (metrics,) = ours.train(TRAIN[:3], VALID, epochs=1, valid_skip=1, scheduler=False)
    assert metrics.train_loss == pytest.approx(loss.item(), rel=1e-10)
    for mine, theirs in zip(ours.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


def test_training_lowers_the_error() -> None:
    trained = member()
    metrics = train(trained, 20)
    assert metrics[-1].mae_f < 0.5 * metrics[0].mae_f


def test_metrics_are_the_errors_of_the_averaged_model() -> None:
    trained = member()
    metrics = train(trained, 3)[-1]
    model = trained.averaged_model()
    energy, force = [], []
    for graph in VALID:
        (batch,) = mace_graphs.batches([graph], 1)
        output = model(batch.to_dict(), compute_force=True)
        energy.append((output["energy"] - batch.energy).item())
        force.append((output["forces"] - batch.forces).detach().numpy().ravel())
    sizes = np.array([len(graph.positions) for graph in VALID])
    errors, per_atom, forces = np.array(energy), np.array(energy) / sizes, np.concatenate(force)
    assert metrics.mae_e == pytest.approx(np.abs(errors).mean())
    assert metrics.rmse_e_per_atom == pytest.approx(np.sqrt((per_atom**2).mean()))
    assert metrics.mae_f == pytest.approx(np.abs(forces).mean())
    assert metrics.rmse_f == pytest.approx(np.sqrt((forces**2).mean()))
    assert metrics.mae_stress is None


def test_validation_uses_averages_and_gives_the_raw_weights_back() -> None:
    trained = member()
    metrics = train(trained, 3)[-1]
    assert metrics.valid_loss == pytest.approx(validation_loss(trained.averaged_model()))
    assert metrics.valid_loss != pytest.approx(
        validation_loss(model_files.copy_model(trained.model))
    )
    assert all(weight.requires_grad for weight in trained.model.parameters())


def test_without_ema_the_raw_weights_are_validated() -> None:
    trained = member(ema=False)
    metrics = train(trained, 2)[-1]
    assert trained.learner.ema is None
    assert same(trained.averaged_model(), trained.model)
    assert metrics.valid_loss == pytest.approx(validation_loss(trained.averaged_model()))


def test_stress_is_trained_and_reported() -> None:
    made = []
    for index in range(4):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, rng=np.random.default_rng(index))
        atoms.calc = EMT()
        atoms.info |= {"REF_energy": atoms.get_potential_energy(), "REF_stress": atoms.get_stress()}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        made.append(atoms)
    chosen = settings({"compute_stress": True}, loss="universal", stress_weight=100.0)
    data = mace_graphs.graphs(made, [29], chosen)
    trained = Member.create(chosen, [29], "copper", 1, data)
    metrics = trained.train(data, data, epochs=1, valid_skip=1, scheduler=False)[0]
    assert metrics.mae_stress is not None
    assert metrics.mae_stress > 0


def test_batch_larger_than_the_set_falls_back_to_one() -> None:
    trained = member(batch_size=50)
    train(trained, 1)
    assert trained.learner.ema is not None
    assert trained.learner.ema.num_updates == len(TRAIN)


# ---- reproducible and resumable -------------------------------------------------------------


def test_training_draws_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    first = member()
    train(first, 2)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    second = member()
    train(second, 2)
    assert same(first.model, second.model)


def test_seeds_make_different_members() -> None:
    first, second = member(1), member(2)
    assert not same(first.model, second.model)


RESUME = """
import pickle
import sys
from pathlib import Path
from aimspax_core.model.mace.graphs import graphs
from aimspax_core.model.member import Member
from aimspax_core.settings.model import ModelSettings

folder = Path(sys.argv[1])
settings = ModelSettings.model_validate_json((folder / "settings.json").read_text())
train, valid = (
    graphs(pickle.loads((folder / name).read_bytes()), (1, 6, 8), settings)
    for name in ("train", "valid")
)
member = Member.load(folder / "member.pt", settings)
member.train(train, valid, epochs=5, valid_skip=3, scheduler=True)
member.save(folder / "resumed.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ReduceLROnPlateau", "ExponentialLR"])
def test_resumed_in_a_fresh_process_equals_unbroken(scheduler: str, tmp_path: Path) -> None:
    chosen = {"scheduler": scheduler, "scheduler_patience": 0, "lr_scheduler_gamma": 0.9}
    unbroken, broken = member(**chosen), member(**chosen)
    train(unbroken, 7, valid_skip=3, scheduler=True)
    train(broken, 2, valid_skip=3, scheduler=True)
    broken.save(tmp_path / "member.pt")
    (tmp_path / "settings.json").write_text(broken.settings.model_dump_json())
    for name, made in (("train", structures(8, seed=0)), ("valid", structures(5, seed=1))):
        (tmp_path / name).write_bytes(pickle.dumps(made))  # no text format keeps every bit
    subprocess.run([sys.executable, "-W", "ignore", "-c", RESUME, str(tmp_path)], check=True)
    resumed = Member.load(tmp_path / "resumed.pt", broken.settings)
    assert same(resumed.model, unbroken.model)
    assert same(resumed.averaged_model(), unbroken.averaged_model())
    assert resumed.learner.lr == unbroken.learner.lr
    assert (resumed.epoch, resumed.total_epochs) == (7, 7)


def test_loaded_member_has_the_saved_state(tmp_path: Path) -> None:
    saved = member()
    train(saved, 2)
    saved.enter(Stage.ACTIVE)
    train(saved, 1)
    saved.save(tmp_path / "member.pt")
    loaded = Member.load(tmp_path / "member.pt", saved.settings)
    for name in ("tag", "seed", "elements", "stage", "epoch", "total_epochs", "constants"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.progress == saved.progress
    train(saved, 2)
    train(loaded, 2)
    assert same(loaded.model, saved.model)


def test_checkpoint_holds_tensors_and_plain_containers_only(tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    trained = member(scheduler="ExponentialLR")
    train(trained, 1, scheduler=True)
    trained.enter(Stage.CONVERGE)
    trained.converge(TRAIN, VALID, max_epochs=1, patience=5, margin=0.0)
    trained.save(path)
    assert torch.load(path, weights_only=True)["tag"] == "tiny-1"
    torch.save({"format": 1, "harm": Path()}, path)
    with pytest.raises(DamagedError, match="not a readable checkpoint"):
        Member.load(path, trained.settings)


def test_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    member().save(path)
    wider = settings().model_copy(deep=True)
    wider.ARCHITECTURE.__dict__["num_channels"] = 16
    with pytest.raises(ModelError, match="does not fit"):
        Member.load(path, wider)
    with pytest.raises(ModelError, match="float64, the settings say float32"):
        Member.load(path, settings({"default_dtype": "float32"}))
    with pytest.raises(DamagedError, match="no checkpoint"):
        Member.load(tmp_path / "none.pt", settings())


# ---- stages, schedulers, patience -----------------------------------------------------------


def test_initial_steps_the_scheduler_at_validations_only_if_asked() -> None:
    with_, without = member(scheduler_patience=0, lr=0.3), member(scheduler_patience=0, lr=0.3)
    train(with_, 6, scheduler=True)
    train(without, 6, scheduler=False)
    assert with_.learner.lr < 0.3
    assert without.learner.lr == 0.3


def test_exponential_scheduler_steps_at_every_epoch() -> None:
    trained = member(scheduler="ExponentialLR", lr_scheduler_gamma=0.5, lr=0.01)
    metrics = train(trained, 3, scheduler=True, valid_skip=3)
    assert trained.learner.lr == pytest.approx(0.01 * 0.5**3)
    assert metrics[0].lr == pytest.approx(0.01 * 0.5**2)


def test_active_has_no_scheduler_and_carries_weights_and_averages_on() -> None:
    trained = member(lr=0.1, scheduler_patience=0)
    train(trained, 2, scheduler=True)
    raw, averaged = weights(trained.model), weights(trained.averaged_model())
    trained.enter(Stage.ACTIVE)
    assert trained.learner.scheduler is None
    assert trained.epoch == 0
    assert equal(raw, weights(trained.model))
    assert equal(averaged, weights(trained.averaged_model()))
    train(trained, 5, scheduler=True)
    assert trained.learner.lr == 0.1


def test_converge_starts_from_the_averages_with_a_new_ema() -> None:
    trained = member()
    train(trained, 3)
    averaged = trained.averaged_model()
    trained.enter(Stage.CONVERGE)
    assert same(trained.model, averaged)
    assert trained.learner.ema is not None
    assert trained.learner.ema.num_updates == 0
    assert trained.learner.scheduler is not None


def test_fresh_optimizer_after_patience() -> None:
    trained = member(lr=1.0)  # so high that validations get worse
    trained.enter(Stage.ACTIVE)
    seen: list[tuple[int, int]] = []

    kept = []  # or a new optimizer could have the place in memory of an old one
    for _ in range(12):
        train(trained, 1, patience=2)
        kept.append(trained.learner.optimizer)
        seen.append((id(kept[-1]), trained.progress.validations_without_improvement))
    optimizers = [optimizer for optimizer, _ in seen]
    changes = [i for i in range(1, len(seen)) if optimizers[i] != optimizers[i - 1]]
    assert changes
    assert all(seen[i - 1][1] == 2 and seen[i][1] == 0 for i in changes)


def test_validates_at_multiples_and_after_the_last_epoch() -> None:
    trained = member()
    assert [m.epoch for m in train(trained, 5, valid_skip=3)] == [3, 5]
    assert [m.epoch for m in train(trained, 3, valid_skip=3)] == [6, 8]


@pytest.mark.parametrize(("step", "budget", "done"), [(1, 15.0, 2), (3, 15.0, 3), (2, 0.0, 2)])
def test_time_budget_is_looked_at_after_each_step(step: int, budget: float, done: int) -> None:
    trained = member()
    train(trained, 9, budget=Budget(budget, step, lambda: 10.0 * trained.epoch))
    assert trained.epoch == done


def test_renewed_constants_are_those_of_the_grown_set() -> None:
    trained = member()
    grown = [*TRAIN, *mace_graphs.graphs(structures(7, seed=5), ELEMENTS, settings())]
    trained.renew_constants(grown)
    assert trained.constants == build.constants_of(grown, ELEMENTS, settings())
    model: Any = trained.averaged_model()
    found = model.atomic_energies_fn.atomic_energies.ravel().tolist()
    assert found == [trained.constants.atomic_energies[z] for z in ELEMENTS]
    assert model.interactions[0].avg_num_neighbors == trained.constants.avg_num_neighbors


# ---- convergence ----------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.05, 1.0])
def test_converge_keeps_the_best_epoch_though_later_ones_are_worse(
    lr: float, tmp_path: Path
) -> None:
    trained = member(lr=lr, scheduler_patience=50)
    train(trained, 2)
    trained.enter(Stage.CONVERGE)
    metrics, finished = trained.converge(TRAIN, VALID, max_epochs=12, patience=50, margin=0.0)
    best = min(metrics, key=lambda found: found.valid_loss)
    assert finished
    assert best.valid_loss < metrics[-1].valid_loss  # or the case proves nothing
    assert trained.best_metrics == best
    assert validation_loss(trained.best_model()) == pytest.approx(best.valid_loss)
    assert validation_loss(trained.averaged_model()) == pytest.approx(metrics[-1].valid_loss)
    trained.save(tmp_path / "member.pt")
    loaded = Member.load(tmp_path / "member.pt", trained.settings)
    assert loaded.best_metrics == best
    assert same(loaded.best_model(), trained.best_model())


def test_patience_counts_epochs_since_an_improvement_beyond_the_margin() -> None:
    trained = member(lr=1e-3)
    trained.enter(Stage.CONVERGE)
    metrics, finished = trained.converge(
        TRAIN, VALID, max_epochs=50, patience=4, margin=1e9, valid_skip=2
    )
    # The first validation (epoch 2) counts as an improvement on nothing; 2 + 4 is the end.
    assert finished
    assert [m.epoch for m in metrics] == [0, 2, 4, 6]
    assert trained.best_metrics is not None
    assert trained.best_metrics.valid_loss == min(m.valid_loss for m in metrics)


def test_convergence_in_chunks_equals_one_in_one_go(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"max_epochs": 6, "patience": 50, "margin": 0.0, "valid_skip": 2}
    whole, parts = member(lr=0.05), member(lr=0.05)
    whole.enter(Stage.CONVERGE)
    parts.enter(Stage.CONVERGE)
    expected, _ = whole.converge(TRAIN, VALID, **chosen)
    found, finished = [], False
    while not finished:
        more, finished = parts.converge(TRAIN, VALID, budget=Budget(0.0), **chosen)
        found += more
        parts.save(tmp_path / "member.pt")
        parts = Member.load(tmp_path / "member.pt", parts.settings)
    assert [m.valid_loss for m in found] == [m.valid_loss for m in expected]
    assert same(parts.model, whole.model)
    assert same(parts.best_model(), whole.best_model())
    assert parts.converge(TRAIN, VALID, **chosen) == ([], True)


def test_training_set_may_not_change_while_converging() -> None:
    trained = member()
    with pytest.raises(ModelError, match="not begun to converge"):
        trained.best_model()
    trained.enter(Stage.CONVERGE)
    trained.converge(TRAIN, VALID, max_epochs=1, patience=5, margin=0.0)
    trained.renew_constants(TRAIN)
    with pytest.raises(ModelError, match="must not change"):
        trained.renew_constants(TRAIN[:4])


# ---- failures -------------------------------------------------------------------------------


def spoilt(name: str) -> list:
    made = structures(8)
    if name == "energy":
        made[2].info["REF_energy"] = math.nan
    else:
        made[2].arrays["REF_forces"][0, 0] = math.inf
    return mace_graphs.graphs(made, ELEMENTS, settings())


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_label_that_is_not_finite_stops_training_and_is_not_saved(
    label: str, tmp_path: Path
) -> None:
    trained = member()
    train(trained, 1)
    trained.save(tmp_path / "member.pt")
    good = trained.averaged_model()
    dtype = torch.get_default_dtype()
    with pytest.raises(DivergedError, match="tiny-1, epoch 2 of stage initial: diverged"):
        trained.train(spoilt(label), VALID, epochs=3, valid_skip=1, scheduler=False)
    assert torch.get_default_dtype() == dtype
    with pytest.raises(ModelError, match="not finite"):
        trained.save(tmp_path / "member.pt")
    loaded = Member.load(tmp_path / "member.pt", trained.settings)
    assert same(loaded.averaged_model(), good)


def test_validation_label_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DivergedError, match="validation loss is nan"):
        member().train(TRAIN, spoilt("energy")[:5], epochs=1, valid_skip=1, scheduler=False)


def test_empty_and_unlabelled_sets_are_named() -> None:
    trained = member()
    with pytest.raises(ModelError, match="no validation structures"):
        trained.train(TRAIN, [], epochs=1, valid_skip=1, scheduler=False)
    with pytest.raises(ModelError, match="no training structures"):
        trained.train([], VALID, epochs=1, valid_skip=1, scheduler=False)
    bare = mace_graphs.graphs([molecule("H2O")], ELEMENTS, settings())
    with pytest.raises(ModelError, match="no labels for mae_f"):
        trained.train(TRAIN, bare, epochs=1, valid_skip=1, scheduler=False)
