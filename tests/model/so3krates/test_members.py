"""Members of So3krates and SO3LR: published for their package's calculator, energies solved for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.errors import ModelError
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import family
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.worker_memory import WorkerMemory
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.model import ModelSettings
from tests.model.so3krates.test_keys import BASE, FAR
from tests.model.test_keys import ELEMENTS, structures

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.calculator.so3 import TorchkratesCalculator

each = pytest.mark.parametrize("name", ["so3krates", "so3lr"])


def settings(name: str, **keys: Any) -> ModelSettings:
    more = (FAR if name == "so3lr" else {}) | keys
    return ModelSettings.model_validate(BASE | {"ARCHITECTURE": BASE["ARCHITECTURE"] | more})


@cache
def trained(name: str, solve: str) -> Member:
    """One round, as its task does it."""
    chosen = settings(name, solve_energies=solve)
    graphs = family(name).graphs(structures(6, seed=0), ELEMENTS, chosen)
    member = Member.create(chosen, ELEMENTS, "t-1", 1, graphs)
    renew(member, graphs, "set")
    last = member.train(graphs, graphs, epochs=2, valid_skip=1, scheduler=False)
    settle_energies(member, graphs, graphs, last[-1])
    return member


def off(name: str, solve: str) -> float:
    """The mean error (eV/atom) of copper's energies, the mean over water's aside."""
    made = structures(6, seed=0)
    model = trained(name, solve).averaged_model()
    found = Committee(family(name).evaluator([model])).evaluate(made)
    missed = [
        (atoms.info["REF_energy"] - one.energy) / len(atoms)
        for atoms, one in zip(made, found, strict=True)
    ]
    return max(abs(np.mean(missed[0::2])), abs(np.mean(missed[1::2])))


@each
def test_the_calculator_is_told_charge_and_spin_as_the_note_has_it(
    name: str, tmp_path: Path
) -> None:
    note = row_of(name).calculator_note
    assert "the total charge (e) from info['charge'] and S from info['total_spin']" in note
    file, water = tmp_path / "published.model", molecule("H2O")
    family(name).save(trained(name, "auto").averaged_model(), file)
    committee = Committee(family(name).evaluator([family(name).load(file)]))
    (neutral,) = committee.evaluate([water])
    water.info |= {"charge": 1.0, "spin": 2.0}
    (found,) = committee.evaluate([water])
    water.info["total_spin"] = 0.5
    with number_format("float64"):  # the calculator sets it for good
        water.calc = TorchkratesCalculator(
            model_paths=str(file), model_type=name, default_dtype="float64",
            r_max_lr=5.0 if name == "so3lr" else None,
        )  # fmt: skip
        assert found.energy == pytest.approx(water.get_potential_energy(), rel=1e-10)
        np.testing.assert_allclose(found.forces, water.get_forces(), atol=1e-8)
    assert abs(found.energy - neutral.energy) > 1e-8


def test_models_of_other_cutoffs_are_told_apart() -> None:
    far = family("so3lr").copy(trained("so3lr", "auto").averaged_model())
    near: Any = family("so3lr").copy(far)
    near.use_lr = False
    with pytest.raises(ModelError, match=r"cutoff radii: \(3\.5, 5\.0\), \(3\.5, None\)"):
        family("so3lr").evaluator([far, near])


@each
def test_a_charged_structure_is_trained_on_as_it_is_evaluated(name: str, tmp_path: Path) -> None:
    store, water = LabelStore(tmp_path), molecule("H2O")
    water.info |= {"charge": 1.0, "spin": 2.0}
    store.put("key", water, Label(-1.0, np.zeros((3, 3)), None, {}))
    (graph,) = WorkerMemory().graphs(store, ["key"], settings(name), ELEMENTS)
    evaluator = family(name).evaluator([trained(name, "auto").averaged_model()])
    wanted = evaluator.graph(water)
    assert (graph.charge, graph.unpaired) == (wanted.charge, wanted.unpaired) == (1.0, 1.0)


@each
def test_the_constant_part_of_the_energies_is_solved_for(name: str) -> None:
    assert off(name, "auto") < 1e-8
    assert off(name, "never") > 1e-3


@each
def test_the_lines_that_users_are_given_load_what_is_published(name: str, tmp_path: Path) -> None:
    file, water = tmp_path / "published.model", molecule("H2O")
    family(name).save(trained(name, "auto").averaged_model(), file)
    (found,) = Committee(family(name).evaluator([family(name).load(file)])).evaluate([water])
    lines = family(name).loaded_by(settings(name), str(file))
    with number_format("float64"):  # the calculator sets it for good
        exec("\n".join(lines), {"atoms": water})  # as a user would paste them
        assert found.energy == pytest.approx(water.get_potential_energy(), rel=1e-10)
    chosen = settings(name)
    trains = chosen.GENERAL.model_copy(update={"compute_stress": True})
    lines = family(name).loaded_by(chosen.model_copy(update={"GENERAL": trains}), str(file))
    crystal = next(atoms for atoms in structures(6, seed=0) if atoms.pbc.all())
    with number_format("float64"):
        exec("\n".join(lines), {"atoms": crystal})
        assert np.isfinite(crystal.get_stress()).all()


@each
def test_the_calculator_of_the_package_loads_what_is_published(name: str, tmp_path: Path) -> None:
    file = tmp_path / "published.model"
    family(name).save(trained(name, "auto").averaged_model(), file)
    committee = Committee(family(name).evaluator([family(name).load(file)]))
    for atoms in structures(2, seed=3):
        periodic = bool(atoms.pbc.all())
        (found,) = committee.evaluate([atoms], stress=True)
        with number_format("float64"):  # the calculator sets it for good
            atoms.calc = TorchkratesCalculator(
                model_paths=str(file), model_type=name, default_dtype="float64",
                r_max_lr=5.0 if name == "so3lr" else None, compute_stress=periodic,
            )  # fmt: skip
            assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
            np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-8)
            if periodic:
                stress = atoms.get_stress(voigt=False)
                np.testing.assert_allclose(found.stress, stress, atol=1e-8)
