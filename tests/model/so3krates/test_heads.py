"""SO3LR with several heads: each key does something, and the spread is that of the heads."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import family
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.given_models import adopt
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.trained import trained_model
from aimspax_core.prediction import Prediction
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.model import ModelSettings
from aimspax_core.uncertainty.force_spread import atomic_sd
from tests.model.so3krates.test_keys import BASE, FAR
from tests.model.test_keys import ELEMENTS, structures

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.calculator.so3 import MultiHeadSO3LRCalculator
from so3krates_torch.modules.models import MultiHeadSO3LR

from aimspax_core.model.so3krates.graphs import Graph
from aimspax_core.model.so3krates.heads import dealt

SO3LR = family("so3lr")
HEADS = 3


def settings(heads: int = HEADS, tuned: dict[str, Any] | None = None) -> ModelSettings:
    """A small SO3LR; `tuned`: keys of TRAINING by which it begins from a model."""
    keys: dict[str, Any] = {"use_multihead_model": True, "num_multihead_heads": heads}
    architecture = BASE["ARCHITECTURE"] | FAR | (keys if heads > 1 else {})
    training = BASE["TRAINING"] | ({} if tuned is None else {"perform_finetuning": True, **tuned})
    return ModelSettings.model_validate(
        BASE | {"ARCHITECTURE": architecture, "TRAINING": training | {"lr": 0.003}}
    )


@cache
def graphs() -> list[Graph]:
    return SO3LR.graphs(structures(6, seed=0), ELEMENTS, settings())


def begun(chosen: ModelSettings, seed: int = 1) -> Member:
    return Member.create(chosen, ELEMENTS, "t-1", seed, graphs())


def more(member: Member, epochs: int) -> Member:
    member.train(graphs(), graphs(), epochs=epochs, valid_skip=1, scheduler=True)
    return member


@cache
def trained() -> Member:
    """A round, as its task does it; tests leave it as it is."""
    member = begun(settings())
    renew(member, graphs(), "set")
    last = member.train(graphs(), graphs(), epochs=2, valid_skip=1, scheduler=True)
    settle_energies(member, graphs(), graphs(), last[-1])
    return member


def committee(model: torch.nn.Module) -> Committee:
    return Committee(SO3LR.evaluator([model]))


def said(model: torch.nn.Module, stress: bool = False) -> list[Prediction]:
    return committee(SO3LR.copy(model)).evaluate(structures(2, seed=3), stress=stress)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one head and one with several, as they are published."""
    place = tmp_path_factory.mktemp("models")
    SO3LR.save(more(begun(settings(heads=1)), 1).averaged_model(), place / "one.model")
    SO3LR.save(trained().averaged_model(), place / "several.model")
    return place


# ---- the committee --------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [2, 3])
def test_each_head_is_a_member_of_the_committee(heads: int) -> None:
    model = begun(settings(heads)).averaged_model()
    assert len(committee(SO3LR.copy(model))) == heads
    for one, atoms in zip(said(model), structures(2, seed=3), strict=True):
        assert one.member_forces.shape == (heads, len(atoms), 3)
        assert one.member_energies.shape == (heads,)
        assert (atomic_sd(one.member_forces) > 0).all()


def test_a_lone_atom_has_the_energies_of_all_heads() -> None:
    asked, far = committee(trained().averaged_model()), Atoms("HH", [[0, 0, 0], [50, 0, 0]])
    (alone,), (both,) = asked.evaluate([Atoms("H")]), asked.evaluate([far])
    assert len(set(alone.member_energies.tolist())) == HEADS
    np.testing.assert_allclose(alone.member_forces, np.zeros((HEADS, 1, 3)), atol=1e-12)
    np.testing.assert_allclose(both.member_forces, np.zeros((HEADS, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(both.member_energies, 2 * alone.member_energies, rtol=1e-10)
    (copper,) = asked.evaluate([bulk("Cu")], stress=True)
    assert copper.member_forces.shape == (HEADS, 1, 3)
    assert copper.stress is not None


def test_forces_and_stress_of_the_mean_follow_from_its_energy() -> None:
    model, step = trained().averaged_model(), 1e-4
    asked = committee(model)
    atoms = structures(2, seed=3)[1]
    assert atoms.pbc.all()
    (found,) = asked.evaluate([atoms], stress=True)
    energies, strained = [], []
    for sign in (1, -1):
        moved, wide = atoms.copy(), atoms.copy()
        moved.positions[0, 1] += sign * step
        wide.set_cell(wide.cell.array * (1 + sign * step), scale_atoms=True)
        energies.append(asked.evaluate([moved])[0].member_energies)
        strained.append(asked.evaluate([wide])[0].energy)
    slopes = (energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(found.member_forces[:, 0, 1], -slopes, rtol=1e-4, atol=1e-5)
    assert found.stress is not None
    slope = (strained[0] - strained[1]) / (2 * step) / atoms.get_volume()
    assert np.trace(found.stress) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_models_with_heads_go_beside_others() -> None:
    one = more(begun(settings(heads=1)), 1).averaged_model()
    both = Committee(SO3LR.evaluator([trained().averaged_model(), one]))
    assert len(both) == HEADS + 1
    alone = said(trained().averaged_model())[0].member_forces
    together = both.evaluate(structures(2, seed=3))[0].member_forces
    np.testing.assert_allclose(together[:HEADS], alone, atol=1e-10)


# ---- training -------------------------------------------------------------------------------


def test_each_structure_leaves_out_one_head_and_trains_all_others() -> None:
    found = {tuple(dealt(graphs(), HEADS, np.random.default_rng(n)).tolist()) for n in range(60)}
    for place in range(len(graphs())):
        assert len({heads[place] for heads in found}) == HEADS - 1


def test_heads_are_dealt_by_the_structures_whatever_their_order() -> None:
    left_out = [set(range(HEADS)) for _ in graphs()]
    for seed in range(60):
        random = np.random.default_rng(seed)
        for place, head in enumerate(dealt(graphs()[::-1], HEADS, random)[::-1].tolist()):
            left_out[place].discard(head)
    for seed in range(60):
        drawn = dealt(graphs(), HEADS, np.random.default_rng(seed)).tolist()
        assert all({head} != left_out[place] for place, head in enumerate(drawn))


def test_a_step_trains_the_head_of_each_structure_and_no_other() -> None:
    member = begun(settings())
    before = {n: w.detach().clone() for n, w in member.model.named_parameters()}
    steps, one = member.learner.steps, [graphs()[0]]
    steps.train_epoch(member.model, steps.loss(), one, (1, 0, 0), member.learner.optimizer, None)
    (head,) = dealt(one, HEADS, _after_shuffling((1, 0, 0)))
    name = "atomic_energy_output_block.final_layer_weights"
    moved = (dict(member.model.named_parameters())[name] - before[name]).abs().sum(dim=(1, 2)) > 0
    assert moved.tolist() == [n == head for n in range(HEADS)]


def _after_shuffling(order: tuple[int, ...]) -> np.random.Generator:
    random = np.random.default_rng(list(order))
    random.permutation(1)
    return random


def test_validation_is_of_the_mean_of_the_heads() -> None:
    frames = structures(6, seed=0)
    found = committee(trained().averaged_model()).evaluate(frames)
    errors = [
        np.abs(one.forces - atoms.arrays["REF_forces"]).ravel()
        for one, atoms in zip(found, frames, strict=True)
    ]
    measured = trained().errors_on(graphs()).mae_f
    assert measured == pytest.approx(np.concatenate(errors).mean(), rel=1e-8)


def test_training_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    unbroken = more(more(begun(settings()), 1), 2)
    more(begun(settings()), 1).save(tmp_path / "member.pt")
    taken_up = more(Member.load(tmp_path / "member.pt", settings()), 2)
    for one, other in zip(unbroken.model.parameters(), taken_up.model.parameters(), strict=True):
        assert torch.equal(one, other)
    taken_up.save(tmp_path / "later.pt")
    drives = trained_model(tmp_path / "later.pt", settings())
    for one, other in zip(said(unbroken.averaged_model()), said(drives), strict=True):
        np.testing.assert_array_equal(one.member_forces, other.member_forces)


# ---- what is published ----------------------------------------------------------------------


def test_the_calculator_of_the_package_says_what_the_committee_says(folder: Path) -> None:
    file = str(folder / "several.model")
    assert type(SO3LR.load(folder / "several.model")) is MultiHeadSO3LR
    for atoms, one in zip(structures(2, seed=3), said(SO3LR.load(Path(file)), True), strict=True):
        periodic = bool(atoms.pbc.all())
        with number_format("float64"):  # the calculator sets it for good
            atoms.calc = MultiHeadSO3LRCalculator(
                model_path=file, r_max_lr=5.0, default_dtype="float64", compute_stress=periodic
            )
            assert one.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
            np.testing.assert_allclose(one.forces, atoms.get_forces(), atol=1e-6)
            each = atoms.calc.results["forces_comm"]
            np.testing.assert_allclose(one.member_forces, each, atol=1e-6)
            if periodic:
                stress = atoms.get_stress(voigt=False)
                np.testing.assert_allclose(one.stress, stress, atol=1e-6)


def test_the_lines_that_users_are_given_load_it(folder: Path) -> None:
    water = molecule("H2O")
    lines = SO3LR.loaded_by(settings(), str(folder / "several.model"))
    (found,) = committee(SO3LR.load(folder / "several.model")).evaluate([water])
    with number_format("float64"):  # the calculator sets it for good
        exec("\n".join(lines), {"atoms": water})  # as a user would paste them
        assert found.energy == pytest.approx(water.get_potential_energy(), abs=1e-6)
        assert len(water.calc.results["energies"]) == HEADS


# ---- fine-tuning ----------------------------------------------------------------------------


def tuned(folder: Path, model: str, heads: int = HEADS, **training: Any) -> Member:
    chosen = settings(heads, {"pretrained_model": model} | training)
    return begin_member(chosen, ELEMENTS, "t-1", 1, graphs(), folder)


def test_heads_begin_as_copies_of_a_models_one_and_part_by_training(folder: Path) -> None:
    member = tuned(folder, "one.model", convert_to_multihead=True)
    wanted = said(SO3LR.load(folder / "one.model"))
    for one, other in zip(said(member.averaged_model()), wanted, strict=True):
        for head in range(HEADS):
            np.testing.assert_allclose(one.member_forces[head], other.forces, atol=1e-9)
    more(member, 1)
    assert all((atomic_sd(o.member_forces) > 0).any() for o in said(member.averaged_model()))


def test_a_model_with_heads_is_trained_on(folder: Path) -> None:
    member = tuned(folder, "several.model")
    wanted = said(SO3LR.load(folder / "several.model"))
    for one, other in zip(said(member.averaged_model()), wanted, strict=True):
        np.testing.assert_allclose(one.member_forces, other.member_forces, atol=1e-9)


def test_heads_are_trained_beside_lora_and_published_without_it(folder: Path) -> None:
    member = tuned(folder, "one.model", convert_to_multihead=True, finetuning_choice="lora")
    learns = {n for n, weight in member.model.named_parameters() if weight.requires_grad}
    assert "atomic_energy_output_block.final_layer_weights" in learns
    assert not any("final_layer.weight" in name for name in learns)
    published = more(member, 1).averaged_model()
    assert not any("lora_" in name for name, _ in published.named_parameters())
    assert all((atomic_sd(one.member_forces) > 0).any() for one in said(published))


def test_frozen_parts_stay_beside_heads(folder: Path) -> None:
    frozen = {"freeze_shifts": True, "freeze_scales": True, "freeze_embedding": True}
    member = tuned(folder, "one.model", convert_to_multihead=True, **frozen)
    before = member.model.atomic_energy_output_block.energy_scales.detach().clone()  # type: ignore[union-attr,operator]
    more(member, 1)
    assert torch.equal(before, member.model.atomic_energy_output_block.energy_scales)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    ("model", "heads", "converts", "told"),
    [
        ("one.model", 3, False, "has one head, and ARCHITECTURE.num_multihead_heads is 3"),
        ("several.model", 3, True, "has 3 heads already"),
        ("several.model", 2, False, "has 3 heads; allowed: ARCHITECTURE.use_multihead_model"),
        ("several.model", 1, False, "num_multihead_heads: 3, and ensemble_size: 1"),
    ],
)
def test_a_model_with_another_number_of_heads_is_refused(
    model: str, heads: int, converts: bool, told: str, folder: Path
) -> None:
    with pytest.raises(ModelError, match=told):
        tuned(folder, model, heads, convert_to_multihead=converts)


def test_a_campaign_can_begin_from_a_model_with_heads(folder: Path, tmp_path: Path) -> None:
    adopt(folder / "several.model", settings(), "several", 1, tmp_path / "member.pt")
    found = said(Member.load(tmp_path / "member.pt", settings()).averaged_model())
    for one, other in zip(found, said(SO3LR.load(folder / "several.model")), strict=True):
        np.testing.assert_allclose(one.member_forces, other.member_forces, atol=1e-9)


def test_no_head_is_left_out_of_the_mean(folder: Path) -> None:
    (one, _) = said(SO3LR.load(folder / "several.model"))
    np.testing.assert_allclose(one.forces, one.member_forces.mean(axis=0), atol=1e-12)
    assert one.energy == pytest.approx(one.member_energies.mean(), rel=1e-12)
