"""What every family of models must hold.

It needs nothing of these tests but this file, so that a new family can be tried with it alone:
`pytest test_conformance.py -k NAME`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import Family, family, family_of, load_any
from aimspax_core.model.member import Member
from aimspax_core.prediction import Prediction
from aimspax_core.settings.families.known_families import FAMILIES, row_of
from aimspax_core.settings.families.row import FamilyRow
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8, 29)
SMALL_SO3: dict[str, Any] = {
    "num_features": 8, "num_heads": 2, "num_layers": 2, "degrees": [1, 2],
    "num_radial_basis_fn": 8, "energy_regression_dim": 8, "r_max": 3.5,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "mace": {
        "num_channels": 4, "num_interactions": 1, "max_L": 0, "max_ell": 1, "correlation": 1,
        "num_radial_basis": 4, "radial_MLP": [4], "r_max": 3.5,
    },
    "so3krates": SMALL_SO3,
    "so3lr": {**SMALL_SO3, "r_max_lr": 5.0},
}  # fmt: skip
"""What makes a family's models small; others are as they are by default."""


def _case(row: FamilyRow) -> Any:
    """A row to be tested; where its package is missing it is skipped, and says so."""
    why = row.why_not_installed()
    marks = pytest.mark.skipif(why is not None, reason=f"{row.name}: {why}")
    return pytest.param(row.name, marks=marks, id=row.name)


each_family = pytest.mark.parametrize("name", [_case(row) for row in FAMILIES])


@cache
def settings(name: str) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "test", "default_dtype": "float64", "model_choice": name},
            "ARCHITECTURE": SMALL.get(name, {}),
            "TRAINING": {"batch_size": 2, "valid_batch_size": 2},
        }
    )


@cache
def labelled() -> tuple[Atoms, ...]:
    """Rattled water and copper with EMT's labels, by turns."""
    made = []
    for index in range(6):
        atoms = bulk("Cu", cubic=True) if index % 2 else molecule("H2O")
        atoms.rattle(0.1, rng=np.random.default_rng(index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        if atoms.pbc.all():
            atoms.info["REF_stress"] = atoms.get_stress()
        atoms.calc = None
        made.append(atoms)
    return tuple(made)


@cache
def graphs(name: str) -> list[Any]:
    return family(name).graphs(labelled(), ELEMENTS, settings(name))


@cache
def trained(name: str) -> Member:
    """A member after two epochs; tests leave it as it is."""
    member = Member.create(settings(name), ELEMENTS, "test-1", 1, graphs(name))
    member.train(graphs(name), graphs(name)[:2], epochs=2, valid_skip=1, scheduler=True)
    return member


@cache
def committee(name: str) -> Committee:
    """Its averaged weights, and another model."""
    built = built_model(name, seed=7)
    return Committee(family(name).evaluator([trained(name).averaged_model(), built]))


def built_model(name: str, seed: int, elements: tuple[int, ...] = ELEMENTS) -> torch.nn.Module:
    energies = family(name).constants_of(graphs(name), ELEMENTS, settings(name))
    return family(name).build(settings(name), elements, energies, seed)


def predicted(name: str, atoms: Atoms) -> Prediction:
    return committee(name).evaluate([atoms], stress=True)[0]


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(left, right, strict=True))


# ---- settings -------------------------------------------------------------------------------


@each_family
def test_settings_survive_json(name: str) -> None:
    assert ModelSettings.model_validate_json(settings(name).model_dump_json()) == settings(name)
    assert settings(name).family is row_of(name)
    assert isinstance(family_of(settings(name)), Family)


@each_family
def test_the_model_choice_may_stand_in_architecture_and_in_capitals(name: str) -> None:
    given = {"GENERAL": {"name_exp": "t"}, "ARCHITECTURE": {"model_choice": name.upper()}}
    read = ModelSettings.model_validate(given)
    assert read.GENERAL.model_choice == read.ARCHITECTURE.model_choice == name


@each_family
def test_good_settings_have_no_mistakes(name: str) -> None:
    assert list(row_of(name).mistakes(settings(name), ELEMENTS, True)) == []


@each_family
def test_every_loss_of_the_row_can_be_made(name: str) -> None:
    for loss in row_of(name).losses:
        given = json.loads(settings(name).model_dump_json())
        given["TRAINING"]["loss"] = loss
        steps = family(name).steps(ModelSettings.model_validate(given))
        assert isinstance(steps.loss(), torch.nn.Module)


# ---- building, saving -----------------------------------------------------------------------


@each_family
def test_the_same_seed_builds_the_same_model(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (weights(built_model(name, seed)) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"


@each_family
def test_constants_can_be_renewed_in_place(name: str) -> None:
    own = family(name)
    constants = own.constants_of(graphs(name)[:2], ELEMENTS, settings(name))
    renewed = built_model(name, seed=3)
    own.set_constants(renewed, constants, ELEMENTS)
    anew = own.build(settings(name), ELEMENTS, own.constants(**asdict(constants)), 3)
    found = [
        Committee(own.evaluator([model])).evaluate(labelled()[:2]) for model in (renewed, anew)
    ]
    assert [one.energy for one in found[0]] == [one.energy for one in found[1]]


@each_family
def test_atomic_energies_are_kept_if_they_are_known(name: str) -> None:
    known = dict.fromkeys(ELEMENTS, -1.5)
    found = family(name).constants_of(graphs(name), ELEMENTS, settings(name), known)
    assert found.atomic_energies == known


@each_family
def test_a_saved_model_predicts_the_same(name: str, tmp_path: Path) -> None:
    own = family(name)
    own.save(trained(name).averaged_model(), tmp_path / "one.model")
    found, loaded = load_any(tmp_path / "one.model")
    assert found is own
    (one,) = Committee(own.evaluator([loaded])).evaluate([labelled()[0]])
    assert one.energy == predicted(name, labelled()[0]).member_energies[0]


@each_family
def test_a_file_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"no": "model"}, tmp_path / "other.model")
    (tmp_path / "text.model").write_text("no model", encoding="utf-8")
    for file in ("other.model", "text.model", "missing.model"):
        with pytest.raises(ModelError, match=file):
            family(name).load(tmp_path / file)


# ---- training -------------------------------------------------------------------------------


@each_family
def test_training_lowers_the_loss(name: str) -> None:
    member = Member.create(settings(name), ELEMENTS, "test-1", 1, graphs(name))
    found = member.train(graphs(name), graphs(name), epochs=8, valid_skip=1, scheduler=False)
    assert found[-1].valid_loss < found[0].valid_loss


@each_family
def test_a_member_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    name: str, tmp_path: Path
) -> None:
    trained(name).save(tmp_path / "one.pt")
    loaded, again = (Member.load(tmp_path / "one.pt", settings(name)) for _ in range(2))
    assert same(weights(loaded.model), weights(trained(name).model))
    assert loaded.constants == trained(name).constants
    unbroken = Member.create(settings(name), ELEMENTS, "test-1", 1, graphs(name))
    unbroken.train(graphs(name), graphs(name)[:2], epochs=3, valid_skip=1, scheduler=True)
    for member in (loaded, again):
        member.train(graphs(name), graphs(name)[:2], epochs=1, valid_skip=1, scheduler=True)
        assert same(weights(member.model), weights(unbroken.model))


@each_family
def test_training_needs_structures(name: str) -> None:
    member = Member.create(settings(name), ELEMENTS, "test-1", 1, graphs(name))
    for train, valid in (([], graphs(name)), (graphs(name), [])):
        with pytest.raises(ModelError, match=r"no (training|validation) structures"):
            member.train(train, valid, epochs=1, valid_skip=1, scheduler=False)


@each_family
def test_a_published_copy_is_on_its_own(name: str) -> None:
    before = weights(trained(name).model)
    copy = trained(name).averaged_model()
    with torch.no_grad():
        for weight in copy.parameters():
            weight += 1.0
    assert same(before, weights(trained(name).model))


# ---- predicting -----------------------------------------------------------------------------


@each_family
def test_forces_are_the_derivative_of_the_energy(name: str) -> None:
    for atoms in labelled()[:2]:
        found, step = predicted(name, atoms), 1e-4
        for atom, axis in ((0, 0), (1, 2)):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                energies.append(predicted(name, moved).energy)
            slope = (energies[0] - energies[1]) / (2 * step)
            assert found.forces[atom, axis] == pytest.approx(-slope, rel=1e-4, abs=1e-5)


@each_family
def test_stress_is_the_derivative_of_the_energy(name: str) -> None:
    atoms, step = labelled()[1], 1e-5
    found = predicted(name, atoms)
    assert found.stress is not None
    for row, column in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[row, column] += sign * step / 2
            strain[column, row] += sign * step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(predicted(name, moved).energy)
        slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert found.stress[row, column] == pytest.approx(slope, rel=1e-3, abs=1e-6)


@each_family
def test_a_structure_that_is_not_periodic_has_no_stress(name: str) -> None:
    assert predicted(name, labelled()[0]).stress is None


@each_family
def test_the_order_of_the_atoms_does_not_matter(name: str) -> None:
    atoms = labelled()[1]
    order = [2, 0, 3, 1]
    found, other = predicted(name, atoms), predicted(name, atoms[order])
    assert other.energy == pytest.approx(found.energy, rel=1e-10)
    np.testing.assert_allclose(other.forces, found.forces[order], atol=1e-8)


@each_family
def test_the_orientation_does_not_matter(name: str) -> None:
    for atoms in labelled()[:2]:
        turned = atoms.copy()
        turned.rotate(70, (1, 2, 3), rotate_cell=True)
        found, other = predicted(name, atoms), predicted(name, turned)
        assert other.energy == pytest.approx(found.energy, rel=1e-10)
        lengths = [np.linalg.norm(one.forces, axis=1) for one in (found, other)]
        np.testing.assert_allclose(lengths[1], lengths[0], atol=1e-8)


@each_family
def test_a_structure_is_predicted_the_same_alone_and_among_others(name: str) -> None:
    together = committee(name).evaluate(labelled(), stress=True)
    for atoms, one in zip(labelled(), together, strict=True):
        alone = predicted(name, atoms)
        assert one.energy == pytest.approx(alone.energy, rel=1e-10)
        np.testing.assert_allclose(one.member_forces, alone.member_forces, atol=1e-8)
        assert one.member_forces.shape == (2, len(atoms), 3)


@each_family
def test_a_broken_structure_changes_nothing_for_the_others(name: str) -> None:
    broken = labelled()[0].copy()
    broken.positions[0] = np.nan
    lost, one = committee(name).evaluate([broken, labelled()[1]])
    assert np.isnan(lost.energy)
    assert one.energy == pytest.approx(predicted(name, labelled()[1]).energy, rel=1e-10)


@each_family
def test_lone_atoms_have_an_energy_and_no_forces(name: str) -> None:
    (found,) = committee(name).evaluate([Atoms("H")])
    assert np.isfinite(found.energy)
    np.testing.assert_allclose(found.forces, 0.0, atol=1e-12)


@each_family
def test_an_element_that_is_not_known_is_refused(name: str) -> None:
    ammonia = molecule("NH3")
    with pytest.raises(ModelError):
        family(name).graphs([ammonia], ELEMENTS, settings(name))
    with pytest.raises(ModelError):
        committee(name).evaluate([ammonia])
    assert set(committee(name).evaluator.elements) == set(ELEMENTS)


@each_family
def test_models_of_other_elements_are_no_committee(name: str) -> None:
    models = [built_model(name, 1, elements) for elements in (ELEMENTS, (1, 8))]
    with pytest.raises(ModelError):
        family(name).evaluator(models)
