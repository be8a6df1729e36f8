"""The SO3LR that comes with its package: its own calculator and ours say the same of it."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.errors import ModelError
from aimspax_core.evaluation.evaluation import open_models
from aimspax_core.model.family import family, load_foundation
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.engines import So3lrFoundation
from aimspax_core.settings.families.so3krates import FOUNDATION_ELEMENTS, why_not_installed

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.calculator.so3 import TorchkratesCalculator

FILE = Path(
    str(importlib.resources.files("so3krates_torch") / "pretrained" / "so3lr" / "so3lr.model")
)


@pytest.mark.parametrize(("far", "damping"), [(12.0, 2.0), (5.0, 1.0)])
def test_its_own_calculator_and_ours_agree(far: float, damping: float) -> None:
    loaded = load_foundation("so3lr", dtype="float64", r_max_lr=far, dispersion_lr_damping=damping)
    assert loaded.driver.evaluator.elements == FOUNDATION_ELEMENTS
    structures = [molecule("C6H6"), molecule("CH3CH2OH")]
    for atoms, found in zip(structures, loaded.driver.evaluate(structures), strict=True):
        with number_format("float64"):  # the calculator sets it for good
            atoms.calc = TorchkratesCalculator(
                models=family("so3lr").load(FILE), r_max_lr=far,
                dispersion_energy_cutoff_lr_damping=damping, default_dtype="float64",
            )  # fmt: skip
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        assert found.energy == pytest.approx(energy, rel=1e-9)
        np.testing.assert_allclose(found.forces, forces, atol=1e-8)
        atoms.calc = loaded.calculator
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-9)


def test_its_file_can_be_evaluated_as_any() -> None:
    (model,) = open_models({"so3lr": FILE})
    (found,) = model.committee.evaluate([molecule("H2O")])
    (theirs,) = load_foundation("so3lr").driver.evaluate([molecule("H2O")])
    np.testing.assert_allclose(found.forces, theirs.forces, atol=1e-5)


def test_the_weights_are_of_its_package_unless_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.model").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"own\.model"):
        load_foundation("so3lr", file=str(tmp_path / "own.model"))


def test_a_file_of_the_users_has_its_own_long_range_unless_the_settings_say_otherwise(
    tmp_path: Path,
) -> None:
    own, (water,) = family("so3lr").load(FILE), [molecule("H2O")]
    own.r_max_lr, own.dispersion_energy_cutoff_lr_damping = 5.0, 1.0
    family("so3lr").save(own, tmp_path / "own.model")

    def energy(r_max_lr: float | None, damping: float | None, named: bool = True) -> float:
        asked = So3lrFoundation(
            model_path=tmp_path / "own.model" if named else None,
            r_max_lr=r_max_lr, dispersion_lr_damping=damping,
        )  # fmt: skip
        loaded = load_foundation("so3lr", dtype="float64", **asked.for_so3lr(tmp_path))
        (found,) = loaded.driver.evaluate([pair])
        return found.energy

    pair = water.copy()
    pair.extend(Atoms(water.numbers, water.positions + np.array([0.0, 0.0, 4.7])))
    assert energy(None, None) == energy(5.0, 1.0)
    assert energy(None, None, named=False) == energy(12.0, 2.0)
    assert abs(energy(12.0, None) - energy(None, None)) > 1e-3
    assert abs(energy(None, 0.5) - energy(None, None)) > 1e-5
