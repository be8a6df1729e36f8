"""What every measure of uncertainty must hold; docs/extending/uncertainty-measure.md adds one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.prediction import Prediction
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.project import ActiveLearning
from aimspax_core.uncertainty.measures import MEASURES, Measure, measure_of

every_measure = pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.info |= {"charge": 0.0, "spin": 1.0}
    return atoms


def committee(members: int, seed: int = 0) -> Prediction:
    """What a committee of M members may say of water."""
    rng = np.random.default_rng(seed)
    return of(rng.normal(size=members), rng.normal(size=(members, 3, 3)))


def of(energies: np.ndarray, forces: np.ndarray) -> Prediction:
    return Prediction(float(energies.mean()), forces.mean(axis=0), energies, forces)


def selected(prediction: Prediction, members: list[int]) -> Prediction:
    return of(prediction.member_energies[members], prediction.member_forces[members])


@every_measure
def test_the_settings_choose_it(measure: Measure) -> None:
    settings = ActiveLearning(num_trajectories=1, uncertainty_type=measure.name)
    assert measure_of(settings.uncertainty_type) is measure
    assert [other.name for other in MEASURES].count(measure.name) == 1


@every_measure
def test_it_is_in_the_reference_of_settings(measure: Measure) -> None:
    assert f"`{measure.name}`, {measure.text} ({measure.unit})" in page()


@every_measure
def test_it_is_a_number_that_is_not_negative(measure: Measure) -> None:
    found = measure.function(committee(4), water())
    assert type(found) is float
    assert math.isfinite(found)
    assert found > 0


@every_measure
@pytest.mark.parametrize("members", [1, 3])
def test_members_that_agree_are_sure(measure: Measure, members: int) -> None:
    agreed = selected(committee(1), [0] * members)
    assert measure.function(agreed, water()) == pytest.approx(0.0, abs=1e-12)


@every_measure
def test_it_grows_with_the_disagreement(measure: Measure) -> None:
    said = committee(4)
    wider = of(
        said.energy + 2 * (said.member_energies - said.energy),
        said.forces + 2 * (said.member_forces - said.forces),
    )
    assert measure.function(wider, water()) > measure.function(said, water())


@every_measure
def test_the_order_of_members_does_not_matter(measure: Measure) -> None:
    said = committee(4)
    turned = selected(said, [2, 0, 3, 1])
    assert measure.function(turned, water()) == pytest.approx(measure.function(said, water()))


@every_measure
def test_the_order_of_atoms_of_one_kind_does_not_matter(measure: Measure) -> None:
    said = committee(4)
    swapped, order = water(), [0, 2, 1]
    swapped.positions = swapped.positions[order]
    other = of(said.member_energies, said.member_forces[:, order])
    assert measure.function(other, swapped) == pytest.approx(measure.function(said, water()))


@every_measure
def test_what_is_not_finite_is_not_hidden(measure: Measure) -> None:
    """A structure whose prediction is NaN throughout must not look like one that is sure."""
    said = committee(4)
    nan = of(np.full(4, np.nan), np.full((4, 3, 3), np.nan))
    assert math.isfinite(measure.function(said, water()))
    assert not math.isfinite(measure.function(nan, water()))


@every_measure
def test_it_changes_neither_the_prediction_nor_the_structure(measure: Measure) -> None:
    said, atoms = committee(4), water()
    measure.function(said, atoms)
    np.testing.assert_equal(dataclasses.asdict(said), dataclasses.asdict(committee(4)))
    assert atoms == water()
    assert atoms.info == water().info


@every_measure
def test_its_unit_can_stand_in_the_name_of_a_key(measure: Measure) -> None:
    assert measure.unit.startswith("eV")
    assert measure.plain_unit.replace("_", "").isalnum()
    assert measure.plain_unit.isascii()


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="max_sd"):
        measure_of("max_sd")
