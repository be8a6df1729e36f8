"""So3krates and SO3LR members that begin as trained models: adopted, or fine-tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.family import family, load_foundation
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.given_models import adopt
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.model.so3krates.network import elements_of, told_elements
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from tests.model.so3krates.test_members import each, settings, trained
from tests.model.test_keys import ELEMENTS, structures

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)


@each
def test_an_adopted_member_predicts_what_the_file_predicts(name: str, tmp_path: Path) -> None:
    file, path = tmp_path / "given.model", tmp_path / "member.pt"
    family(name).save(trained(name, "auto").averaged_model(), file)
    assert adopt(file, settings(name), "mine", 3, path) == ELEMENTS
    committees = (
        Committee(family(name).evaluator([family(name).load(file)])),
        Ensemble(settings(name)).committee([path]),
    )
    for theirs, ours in zip(*(one.evaluate(structures(2, 5)) for one in committees), strict=True):
        assert ours.energy == pytest.approx(theirs.energy, rel=1e-12)
        np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-10)


@each
def test_an_adopted_member_keeps_its_constants_as_its_set_grows(name: str, tmp_path: Path) -> None:
    file, path = tmp_path / "given.model", tmp_path / "member.pt"
    family(name).save(trained(name, "auto").averaged_model(), file)
    known = family(name).load(file)
    water = structures(4, seed=0)[::2]  # with fewer neighbours than copper
    (theirs,) = Committee(family(name).evaluator([known])).evaluate(water[:1])
    for keys in ({}, {"atomic_energies": {"H": -1.0, "O": -2.0, "Cu": 0.0}}):
        chosen = settings(name, **keys)
        adopt(file, chosen, "mine", 3, path)
        member = Member.load(path, chosen)
        member.enter(Stage.ACTIVE)
        renew(member, family(name).graphs(water, ELEMENTS, chosen), "set")
        ours = Committee(family(name).evaluator([member.averaged_model()])).evaluate(water[:1])[0]
        np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-10)
        if keys:
            assert member.constants.atomic_energies == {1: -1.0, 8: -2.0, 29: 0.0}
        else:
            assert ours.energy == pytest.approx(theirs.energy, rel=1e-12)


@each
def test_another_architecture_is_told(name: str, tmp_path: Path) -> None:
    file = tmp_path / "given.model"
    family(name).save(trained(name, "auto").averaged_model(), file)
    for key, value in (("num_layers", 3), ("cutoff_fn", "cosine"), ("r_max", 3.0)):
        with pytest.raises(ModelError, match=rf"ARCHITECTURE\.{key}"):
            adopt(file, settings(name, **{key: value}), "mine", 3, tmp_path / "member.pt")


def tuned(**keys: Any) -> ModelSettings:
    """Settings with the ARCHITECTURE of the package's SO3LR."""
    training = {
        "perform_finetuning": True,
        "pretrained_model": "so3lr",
        "lr": 1e-3,
        "batch_size": 2,
    }
    given = {
        "GENERAL": {"name_exp": "t", "default_dtype": "float64", "model_choice": "so3lr"},
        "TRAINING": training,
    }
    plain = ModelSettings.model_validate(given)
    architecture = family("so3lr").architecture_of
    assert architecture is not None
    return ModelSettings.model_validate(
        given | {"ARCHITECTURE": architecture(Pretrained("so3lr"), plain) | keys}
    )


def labelled(count: int) -> list[ase.Atoms]:
    """Water with labels of another reference: SO3LR's, other energies of free atoms, a spring."""
    driver = load_foundation("so3lr", dtype="float64").driver
    made = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=np.random.default_rng(index))
        (found,) = driver.evaluate([atoms])
        away = atoms.positions[1] - atoms.positions[2]
        forces = found.forces.copy()
        forces[1] -= 0.3 * away
        forces[2] += 0.3 * away
        atoms.info["REF_energy"] = found.energy + 777.0 + 0.15 * float(away @ away)
        atoms.arrays["REF_forces"] = forces
        made.append(atoms)
    return made


def test_so3lr_is_fine_tuned(tmp_path: Path) -> None:
    chosen, data = tuned(), labelled(4)
    graphs = family("so3lr").graphs(data, (1, 8), chosen)
    member = begin_member(chosen, (1, 8), "t-1", 1, graphs, tmp_path)
    (theirs,) = load_foundation("so3lr", dtype="float64").driver.evaluate(data[:1])
    (ours,) = Committee(family("so3lr").evaluator([member.averaged_model()])).evaluate(data[:1])
    # The tables beside the weights are of single precision in the file.
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-5)
    assert ours.energy - theirs.energy == pytest.approx(777.0, abs=1.0)  # of the new reference
    first, *_, last = member.train(graphs, graphs, epochs=6, valid_skip=1, scheduler=False)
    assert last.mae_f < first.mae_f
    member.save(tmp_path / "one.pt")
    again = Member.load(tmp_path / "one.pt", chosen)
    for one in (member, again):
        one.train(graphs, graphs, epochs=1, valid_skip=1, scheduler=False)
    weights = [dict(one.model.named_parameters()) for one in (member, again)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_its_architecture_is_that_of_the_package(tmp_path: Path) -> None:
    section: Any = tuned().ARCHITECTURE
    assert (section.energy_activation_fn, section.num_features) == ("silu", 128)
    assert (section.r_max_lr, section.dispersion_energy_cutoff_lr_damping) == (12.0, 2.0)


def test_layers_of_mace_cannot_be_frozen() -> None:
    asked = tuned()
    training = asked.TRAINING.model_copy(update={"freeze": 5})
    (told,) = row_of("so3lr").mistakes(asked.model_copy(update={"TRAINING": training}), (1,), False)
    assert told.startswith("TRAINING.freeze:")


@pytest.mark.parametrize(
    ("factor", "trained_on", "told"),
    [(1.0, (1, 8), (1, 8)), (0.97, (1, 8), (1, 8)), (1.0, (), None), (0.97, (), None)],
)
def test_elements_are_told_by_scales_that_were_trained(
    factor: float, trained_on: tuple[int, ...], told: tuple[int, ...] | None
) -> None:
    model: Any = family("so3krates").copy(trained("so3krates", "auto").averaged_model())
    del model.aimspax_elements
    scales = model.atomic_energy_output_block.energy_scales.weight
    with torch.no_grad():
        scales.fill_(factor)
        for z in trained_on:
            scales.view(-1)[z - 1] = 1.1 + 0.01 * z
    assert told_elements(model) == told
    assert elements_of(model) == (told or tuple(range(1, 119)))


def test_an_element_that_so3lr_does_not_know_is_told(tmp_path: Path) -> None:
    assert row_of("so3lr").elements_missing(Path("so3lr"), (14,))
    graphs = family("so3lr").graphs(labelled(1), (1, 8), tuned())
    with pytest.raises(ModelError, match="Si"):
        begin_member(tuned(), (1, 8, 14), "t-1", 1, graphs, tmp_path)
