"""SO3LR trained on dipoles and Hirshfeld ratios, where labels have them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.labels.dataset import GRAPH_KEYS, labelled
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import StoredLabel
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family, family_of
from aimspax_core.model.member import Member
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.model import ModelSettings
from tests.model.so3krates.test_keys import BASE, FAR
from tests.model.test_keys import listed

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.modules.loss import WeightedEnergyForcesDipoleHirshfeldLoss

from aimspax_core.model.so3krates.graphs import Batch, Graph, collated
from aimspax_core.model.so3krates.steps import So3kratesSteps

BOTH = "weighted_energy_forces_dipole_hirshfeld"
ELEMENTS = (1, 8)


def settings(misc: dict[str, Any] | None = None, **training: Any) -> ModelSettings:
    sections = {"ARCHITECTURE": BASE["ARCHITECTURE"] | FAR, "MISC": misc or {}}
    sections["TRAINING"] = BASE["TRAINING"] | {"loss": BOTH} | training
    return ModelSettings.model_validate(BASE | sections)


def molecules(count: int, bare: tuple[int, ...] = ()) -> list[Atoms]:
    """Water with labels; those in `bare` without a dipole and ratios."""
    made = []
    for index in range(count):
        atoms, noise = molecule("H2O"), np.random.default_rng(index)
        atoms.rattle(0.1, seed=index)
        label = Label(-1.0, noise.normal(size=(3, 3)))
        if index not in bare:
            ratios = noise.uniform(0.5, 1.0, 3)
            label = replace(label, dipole=noise.normal(size=3), hirshfeld_ratios=ratios)
        made.append(labelled(StoredLabel("", atoms, label), GRAPH_KEYS))
    return made


def graphs(chosen: ModelSettings, structures: list[Atoms]) -> list[Graph]:
    made: list[Graph] = family_of(chosen).graphs(structures, ELEMENTS, chosen)
    return made


@cache
def trained(given: str) -> dict[str, Any]:
    """What can be seen of a model trained under settings (JSON: of TRAINING and MISC)."""
    asked = json.loads(given)
    chosen = settings(asked.get("MISC"), **asked.get("TRAINING", {}))
    train, valid = graphs(chosen, molecules(4, bare=(1,))), graphs(chosen, molecules(2))
    member = Member.create(chosen, ELEMENTS, "t-1", 1, train)
    (*_, last) = member.train(train, valid, epochs=1, valid_skip=1, scheduler=False)
    return {
        "weights": listed(member.model),
        "dipole": (last.mae_dipole, last.rmse_dipole),
        "hirshfeld_ratios": (last.mae_hirshfeld_ratios, last.rmse_hirshfeld_ratios),
    }


def given(**sections: Any) -> str:
    return json.dumps(sections)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"dipole_weight": 1.0}, {"dipole_weight": 9.0}),
        ({"hirshfeld_weight": 1.0}, {"hirshfeld_weight": 9.0}),
        ({"loss": "weighted"}, {"loss": "weighted_energy_forces_dipole"}),
        ({"loss": "weighted"}, {"loss": "weighted_energy_forces_hirshfeld"}),
        ({"loss": "weighted_energy_forces_dipole"}, {"loss": BOTH}),
    ],
)
def test_the_loss_and_its_weights_change_what_is_learnt(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = (trained(given(TRAINING=keys)) for keys in (one, other))
    assert first["weights"] != second["weights"]


@pytest.mark.parametrize("quantity", ["dipole", "hirshfeld_ratios"])
def test_errors_are_measured_of_what_is_trained(quantity: str) -> None:
    both, weighted = trained(given()), trained(given(TRAINING={"loss": "weighted"}))
    assert min(both[quantity]) > 0
    assert weighted[quantity] == (None, None)


def test_errors_of_dipoles_are_measured_without_training_if_that_is_asked_for() -> None:
    plain = trained(given(TRAINING={"loss": "weighted"}))
    asked = trained(given(TRAINING={"loss": "weighted"}, MISC={"compute_dipole": True}))
    assert min(asked["dipole"]) > 0
    assert asked["weights"] == plain["weights"]


def test_a_weight_of_zero_trains_as_without() -> None:
    none = {"dipole_weight": 0.0, "hirshfeld_weight": 0.0}
    plain = trained(given(TRAINING={"loss": "weighted"}))
    assert trained(given(TRAINING=none))["weights"] == plain["weights"]
    assert settings(**none).beside == ()


def batch_and_model(chosen: ModelSettings, bare: tuple[int, ...] = ()) -> tuple[Batch, Any]:
    found = graphs(chosen, molecules(3, bare))
    model = Member.create(chosen, ELEMENTS, "t-1", 1, found).model
    with torch.no_grad():  # layers that begin as zero
        generator = torch.Generator().manual_seed(1)
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator)
    return collated(found, torch.float64), model


def loss_of(chosen: ModelSettings, batch: Batch, model: Any) -> torch.Tensor:
    steps = So3kratesSteps(chosen)
    found = steps._predicted(model, batch, stress=False, training=True)
    loss: torch.Tensor = steps.loss()(batch, found)
    return loss


def test_where_all_is_labelled_it_is_the_loss_of_the_package() -> None:
    chosen = settings(dipole_weight=3.0, hirshfeld_weight=5.0)
    batch, model = batch_and_model(chosen)
    found = So3kratesSteps(chosen)._predicted(model, batch, stress=False, training=True)
    package = WeightedEnergyForcesDipoleHirshfeldLoss(1.0, 1000.0, 3.0, 5.0).double()
    expected = float(package(batch, found).detach())
    assert float(loss_of(chosen, batch, model).detach()) == pytest.approx(expected, rel=1e-12)


def test_a_structure_without_the_labels_has_no_part_in_their_errors() -> None:
    alone = settings(energy_weight=0.0, forces_weight=0.0)
    batch, model = batch_and_model(alone, bare=(1,))
    found = float(loss_of(alone, batch, model).detach())
    for name in ("dipole", "hirshfeld_ratios"):
        assert (batch[f"{name}_weight"] == torch.tensor([1.0, 0.0, 1.0])).all()
        batch[name][batch.batch == 1 if name == "hirshfeld_ratios" else 1] += 7.0
    assert float(loss_of(alone, batch, model).detach()) == pytest.approx(found, rel=1e-12)
    assert found > 0


def test_structures_weigh_as_much_for_their_dipoles_as_for_all_else() -> None:
    alone = settings(energy_weight=0.0, forces_weight=0.0, loss="weighted_energy_forces_dipole")
    batch, model = batch_and_model(alone)
    each = []
    for index in range(3):
        batch["weight"] = torch.eye(3, dtype=torch.float64)[index]
        each.append(float(loss_of(alone, batch, model).detach()))
    batch["weight"] = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    found = loss_of(alone, batch, model)
    assert float(found.detach()) == pytest.approx(each[0] + 2.5 * each[2], rel=1e-12)
    found.backward()
    given = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(torch.isfinite(one).all() for one in given)


@pytest.mark.parametrize("bare", [(), (0, 2)])
def test_the_gradient_is_the_slope_of_the_loss(bare: tuple[int, ...]) -> None:
    chosen, step = settings(energy_weight=0.0, forces_weight=0.0), 1e-5
    batch, model = batch_and_model(chosen, bare)
    loss_of(chosen, batch, model).backward()
    trained = [weight for weight in model.parameters() if weight.grad is not None]
    for weight in sorted(trained, key=lambda one: -float(one.grad.abs().max()))[:6]:
        index = int(weight.grad.abs().argmax())
        slopes, flat = [], weight.detach().view(-1)
        for sign in (1, -1):
            flat[index] += sign * step
            slopes.append(float(loss_of(chosen, batch, model).detach()))
            flat[index] -= sign * step
        slope = (slopes[0] - slopes[1]) / (2 * step)
        assert abs(slope) > 1e-6
        assert float(weight.grad.view(-1)[index]) == pytest.approx(slope, rel=1e-4)


def test_training_goes_on_from_its_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    chosen = settings()
    train, valid = graphs(chosen, molecules(4, bare=(1,))), graphs(chosen, molecules(2))

    def member() -> Member:
        return Member.create(chosen, ELEMENTS, "t-1", 1, train)

    whole, parts = member(), member()
    asked: dict[str, Any] = {"valid_skip": 1, "scheduler": True}
    expected = whole.train(train, valid, epochs=4, **asked)
    parts.train(train, valid, epochs=2, **asked)
    parts.save(tmp_path / "c")
    again = Member.load(tmp_path / "c", chosen)
    found = again.train(train, valid, epochs=2, **asked)
    assert listed(again.model) == listed(whole.model)
    assert found[-1].mae_dipole == expected[-1].mae_dipole is not None


def test_what_is_periodic_has_no_dipole() -> None:
    cell = bulk("Cu", cubic=True)
    cell.info |= {"REF_dipole": np.ones(3), "REF_energy": 0.0}
    cell.arrays |= {"REF_forces": np.zeros((4, 3)), "REF_hirshfeld_ratios": np.ones(4)}
    chosen = settings()
    (graph,) = family("so3lr").graphs([cell], (29,), chosen)
    assert graph.dipole is None
    assert graph.hirshfeld_ratios is not None


def test_what_is_only_carried_along_may_be_of_any_shape() -> None:
    water = molecules(1)[0]
    water.info["REF_dipole"] = "of another program"
    (graph,) = graphs(settings(loss="weighted"), [water])
    assert graph.dipole is None
    for carried in ("of another program", np.ones(6), np.full(3, np.nan)):
        water.info["REF_dipole"], water.arrays["REF_hirshfeld_ratios"] = carried, np.ones((3, 2))
        (graph,) = graphs(settings(misc={"compute_dipole": True}), [water])
        assert (graph.dipole, graph.hirshfeld_ratios) == (None, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["so3krates", "so3lr"])
def test_a_gpu_trains_and_predicts_as_a_cpu_does(name: str) -> None:
    def found(device: str) -> tuple[list[float], np.ndarray]:
        chosen = settings({"device": device})
        if name == "so3krates":
            chosen = ModelSettings.model_validate(BASE | {"MISC": {"device": device}})
        made = molecules(4, bare=(1,))
        train = graphs(chosen, made)
        member = Member.create(chosen, ELEMENTS, "t-1", 1, train)
        member.train(train, train[:2], epochs=1, valid_skip=1, scheduler=False)
        models = [member.averaged_model() for _ in range(2)]
        committee = Committee(family(name).evaluator(models, device))
        return listed(member.model), committee.evaluate(made)[0].forces

    (one, forces), (other, same) = found("cpu"), found("cuda")
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(forces, same, atol=1e-6)
