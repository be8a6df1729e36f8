"""Members of So3krates and SO3LR: published for their package's calculator, energies solved for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import family
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
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
def test_the_constant_part_of_the_energies_is_solved_for(name: str) -> None:
    assert off(name, "auto") < 1e-8
    assert off(name, "never") > 1e-3


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
