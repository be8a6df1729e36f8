"""Claims about one foundation model in the committee's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms, FixCom
from mace.calculators import MACECalculator

from aimspax_core.errors import ModelError
from aimspax_core.model.mace import build, foundation, model_files
from aimspax_core.settings.model import ModelSettings

TINY = {"num_channels": 8, "num_interactions": 1, "max_L": 0, "max_ell": 1, "correlation": 2}
STRUCTURES = [molecule("CH3OH"), bulk("Cu", cubic=True), molecule("H2O")]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small local model in the place of a downloaded one."""
    general = {"name_exp": "tiny", "default_dtype": "float64"}
    settings = ModelSettings.model_validate(
        {"GENERAL": general, "ARCHITECTURE": TINY | {"num_radial_basis": 4, "radial_MLP": [8]}}
    )
    constants = build.Constants(dict.fromkeys((1, 6, 8, 29), -2.0), 8.0, 1.0, 0.0)
    path = tmp_path_factory.mktemp("foundation") / "local.model"
    model_files.save_model(build.build(settings, (1, 6, 8, 29), constants, seed=1), path)
    return path


def test_the_driver_predicts_what_its_calculator_does(local: Path) -> None:
    found = foundation.foundation(model=str(local), dtype="float64").driver.evaluate(
        STRUCTURES, stress=True
    )
    calculator = foundation.foundation_calculator(str(local), "cpu", "float64")
    for atoms, one in zip(STRUCTURES, found, strict=True):
        ours = atoms.copy()
        ours.calc = calculator
        assert one.energy == pytest.approx(ours.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(one.forces, ours.get_forces(), atol=1e-9)
        assert one.member_energies.shape == (1,)
        assert one.member_forces.shape == (1, len(atoms), 3)
        if atoms.pbc.all():
            np.testing.assert_allclose(one.stress, ours.get_stress(voigt=False), atol=1e-9)
        else:
            assert one.stress is None


@pytest.mark.parametrize("kernel", ["auto", "lean", "mace"])
def test_its_calculator_predicts_what_maces_own_does(local: Path, kernel: str) -> None:
    found = foundation.foundation(model=str(local), dtype="float64", kernel=kernel).calculator
    assert isinstance(found, MACECalculator) == (kernel == "mace")
    theirs = foundation.foundation_calculator(str(local), "cpu", "float64")
    for atoms in STRUCTURES:
        mine, other = atoms.copy(), atoms.copy()
        mine.calc, other.calc = found, theirs
        assert mine.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(mine.get_forces(), other.get_forces(), atol=1e-9)
        if atoms.pbc.all():
            np.testing.assert_allclose(mine.get_stress(), other.get_stress(), atol=1e-9)
        mine.positions[0] += 0.1  # is noticed
        assert mine.get_potential_energy() != pytest.approx(other.get_potential_energy(), abs=1e-9)


def test_dispersion_is_added_to_everything(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch-dftd is not installed here; any calculator can stand in for its correction.
    correction = LennardJones(epsilon=0.05, sigma=2.0, rc=5.0)
    asked: list[Any] = []
    original = foundation.foundation_calculator

    def made(**given: Any) -> SumCalculator:
        asked.append(given)
        return SumCalculator([original(given["model"], "cpu", "float64"), correction])

    monkeypatch.setattr(foundation, "foundation_calculator", made)
    given = {"model": str(local), "dtype": "float64", "dispersion": True, "damping": "zero"}
    driver = foundation.foundation(**given).driver
    assert asked == [given | {"device": "cpu"}]
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    lost = atoms.copy()
    lost.positions[0] = np.nan
    one, nothing = driver.evaluate([atoms, lost], stress=True)
    assert np.isnan(nothing.energy)
    ours = atoms.copy()
    ours.calc = SumCalculator([original(str(local), "cpu", "float64"), correction])
    assert one.energy == pytest.approx(ours.get_potential_energy(), abs=1e-9)
    assert one.member_energies == pytest.approx([one.energy])
    np.testing.assert_allclose(one.forces, ours.get_forces(), atol=1e-9)
    np.testing.assert_allclose(one.member_forces[0], one.forces, atol=1e-12)
    np.testing.assert_allclose(one.stress, ours.get_stress(voigt=False), atol=1e-9)
    mine = atoms.copy()
    mine.calc = foundation.foundation(**given).calculator
    assert mine.get_potential_energy() == pytest.approx(ours.get_potential_energy(), abs=1e-9)


@pytest.mark.parametrize("constraint", [FixAtoms([0]), FixCom()])
def test_it_predicts_the_forces_on_held_atoms_too(local: Path, constraint: object) -> None:
    made = foundation.foundation_calculator(str(local), "cpu", "float64")
    both = SumCalculator([made, LennardJones(epsilon=0.05, sigma=2.0, rc=5.0)])
    model = foundation.MaceFoundation(both, "cpu", "float64")
    free = bulk("Cu", cubic=True)
    free.rattle(0.1, seed=1)
    held = free.copy()
    held.set_constraint(constraint)
    one, other = model.driver.evaluate([free, held])
    np.testing.assert_array_equal(one.forces, other.forces)
    np.testing.assert_array_equal(one.member_forces, other.member_forces)
    held.calc = model.calculator
    np.testing.assert_allclose(held.get_forces(apply_constraint=False), one.forces, atol=1e-12)


def test_an_unknown_element_is_named(local: Path) -> None:
    with pytest.raises(ModelError, match=r"do not know .* \[7\]"):
        foundation.foundation(model=str(local)).driver.evaluate([molecule("NH3")])
