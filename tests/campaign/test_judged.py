"""Labels held against what the committee had said: what counts, and what is fitted to it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.events import (
    ExplorationAsked,
    LabelArrived,
    LabelsGone,
    SegmentFinished,
)
from aimspax_core.campaign.judged import (
    KEPT,
    Judged,
    Judgement,
    element_factors,
    energy_factor,
)
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus
from aimspax_core.campaign.thresholds import seen
from aimspax_core.labels.label import Label
from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.calibration import LEAST
from aimspax_core.uncertainty.measures import MEASURES, measure_of
from aimspax_core.uncertainty.true_error import mirrored
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

Of = tuple[tuple[str, ...], Judged]
"""An ensemble, and a label that was held against what it had said."""


def water(spread: float, error: float) -> tuple[Prediction, Label]:
    """Two members `spread` apart from their mean in all forces, which is off by `error`."""
    mean, off = np.full((3, 3), 0.5), np.full((3, 3), spread)
    said = Prediction(-10.0, mean, np.array([-10.1, -9.9]), np.stack([mean + off, mean - off]))
    return said, Label(-10.3, mean + error)


def judged(threshold: float | None = 0.1, measure: str = "max_atomic_sd", **numbers) -> Judged:
    said, label = water(numbers.get("spread", 0.2), numbers.get("error", 0.3))
    truth = mirrored(said, label.energy, label.forces)
    return Judged.of(said, truth, molecule("H2O"), 3, threshold, 0, measure_of(measure))


@pytest.mark.parametrize("measure", [one.name for one in MEASURES])
def test_spread_and_error_are_reduced_over_atoms_in_the_same_way(measure: str) -> None:
    found = judged(measure=measure)
    assert (found.spread, found.error) == pytest.approx((0.2, 0.3))


def test_atoms_and_energies_are_told_apart() -> None:
    found = judged()
    assert (found.energy_spread, found.energy_error) == pytest.approx((0.1, 0.3))
    assert {symbol: one.atoms for symbol, one in found.elements.items()} == {"H": 2, "O": 1}
    assert found.elements["H"].error == pytest.approx(0.6)
    assert element_factors((found, found)) == pytest.approx({"H": 1.5, "O": 1.5})


@pytest.mark.parametrize(("threshold", "above"), [(0.1, True), (0.3, False), (None, False)])
def test_it_is_known_on_which_side_of_the_threshold_it_was(
    threshold: float | None, above: bool
) -> None:
    assert judged(threshold).above is above


def energies(rounds: int, each: int, constant: float = 0.0, right: float = 1.0) -> list[Of]:
    """Two geometries, whose members' spread is `right` that of the errors about the constant.

    The constant is another one after each training.
    """
    rng = np.random.default_rng(0)
    return [
        ((str(number),), judged().but(
            geometry=geometry,
            energy_spread=(spread := 0.1 * (1 + turn % 3)),
            energy_error=float(off + 100.0 * geometry + rng.normal(0, spread / right)),
        ))
        for number in range(rounds)
        for off in [rng.normal(0, constant)]
        for geometry in (0, 1)
        for turn in range(each)
    ]  # fmt: skip


@pytest.mark.parametrize("each", [2, 3, 300])
@pytest.mark.parametrize("right", [1.0, 0.5])
def test_energies_err_as_much_as_is_told_however_few_labels_an_ensemble_has(
    each: int, right: float
) -> None:
    found = energy_factor(energies(600 // each, each, right=right))
    assert found == pytest.approx(1 / right, rel=0.1)


def test_the_constant_that_each_training_moves_is_no_matter_of_the_spread() -> None:
    assert energy_factor(energies(100, 6, constant=50.0)) == pytest.approx(1.0, rel=0.1)


def test_one_label_of_an_ensemble_tells_nothing_of_energies() -> None:
    assert energy_factor(energies(10, 1)) is None
    more = energies(1, 300)
    lone = [(("other",), one.but(energy_spread=9.9)) for _, one in more[:1]]
    assert energy_factor([*more, *lone]) == energy_factor(more)


def test_ranks_are_held_against_each_other_while_the_committee_is_much_the_same() -> None:
    """Spread and error shrink by learning, and tell nothing of each other at any time."""
    rng, judgement = np.random.default_rng(1), Judgement()
    for shrunk in np.repeat(np.linspace(1.0, 0.2, 40), 5):
        spread, error = shrunk * np.exp(rng.normal(0, 0.2, 2))
        number = int(rng.integers(2))
        point = judged().but(
            geometry=number, spread=spread * (1 + 4 * number), error=error * (1 + 4 * number)
        )
        judgement = judgement.with_point(point)
    assert abs(judgement.calibration().spearman) < 0.2


def test_only_the_latest_points_count() -> None:
    judgement = Judgement()
    for _ in range(KEPT):
        judgement = judgement.with_point(judged(error=0.2))
    for _ in range(KEPT):
        judgement = judgement.with_point(judged(error=0.6))
    found = judgement.calibration()
    assert found is not None
    assert (judgement.points, found.points, found.factor) == (2 * KEPT, KEPT, pytest.approx(3.0))


def test_geometries_have_calibrations_of_their_own() -> None:
    judgement = Judgement().with_point(judged(error=0.2))
    judgement = judgement.with_point(judged(error=0.6).but(geometry=1))
    factors = [judgement.calibration(geometry).factor for geometry in (0, 1, None)]
    assert factors == pytest.approx([1.0, 3.0, 2.0])
    assert judgement.calibration(2) is None


def checked(state: CampaignState, geometry: int, above: int, below: int) -> CampaignState:
    """Checks of a trajectory of a geometry, held against a threshold of 0.15 eV/Å."""
    index = next(t.index for t in state.trajectories if t.geometry == geometry)
    many = above + below
    event = SegmentFinished(
        action_id="none", results=(), uncertainties=(0.2,) * above + (0.1,) * below,
        checked=(index,) * many, at_steps=tuple(range(many)), thresholds=(0.15,) * many,
    )  # fmt: skip
    return seen(state, event)


def told(state: CampaignState, geometry: int, above: int, below: int) -> CampaignState:
    """Labels of which those below the threshold err by 1, those above by 3 times the spread."""
    point = judged().but(geometry=geometry, spread=0.2, error=0.6, above=True)
    judgement = state.judgement
    for _ in range(above):
        judgement = judgement.with_point(point)
    for _ in range(below):
        judgement = judgement.with_point(point.but(spread=0.1, error=0.1, above=False))
    return state.but(judgement=judgement)


@pytest.fixture(scope="module")
def fresh() -> CampaignState:
    """A campaign with two geometries that explores, and knows of no check and no label yet."""
    rules = make_rules(desired_acc=0.0, geometries=2)
    shell = VirtualShell(rules, World(), np.random.default_rng(1))
    while shell.state.phase is not Phase.READY:
        shell.advance()
    return shell.tell(ExplorationAsked()).but(judgement=Judgement())


def test_labels_stand_for_the_checks_of_their_own_time(fresh: CampaignState) -> None:
    """Half of the checks were above the threshold once, and 1 of 11 is by now."""
    state = told(checked(fresh, 0, 5000, 5000), 0, KEPT // 2, KEPT // 2)
    for _ in range(10):
        state = checked(told(state, 0, KEPT // 20, KEPT // 20), 0, 10, 100)
    found = state.judgement.calibration()
    true = (10 * 0.6 + 100 * 0.1) / (10 * 0.2 + 100 * 0.1)
    assert found is not None
    assert found.factor == pytest.approx(true, rel=0.02)


def test_labels_of_a_geometry_stand_for_its_own_checks(fresh: CampaignState) -> None:
    state = fresh
    for _ in range(10):
        state = checked(told(state, 0, 5, 5), 0, 90, 10)
        state = checked(told(state, 1, 5, 5), 1, 20, 80)
    floppy, rigid = (state.judgement.calibration(geometry) for geometry in (0, 1))
    assert floppy is not None and rigid is not None
    assert floppy.factor == pytest.approx((9 * 0.6 + 0.1) / (9 * 0.2 + 0.1))
    assert rigid.factor == pytest.approx((2 * 0.6 + 8 * 0.1) / (2 * 0.2 + 8 * 0.1))


def test_each_of_many_geometries_comes_to_a_calibration_of_its_own() -> None:
    judgement, many = Judgement(), 2 * KEPT // LEAST
    for number in range(3 * many * LEAST):
        geometry = number % many
        judgement = judgement.with_point(judged(error=0.2 * (1 + geometry)).but(geometry=geometry))
    own = [judgement.calibration(geometry) for geometry in range(many)]
    assert [one.points for one in own if one is not None] == [LEAST] * many
    assert [one.factor for one in own if one is not None] == pytest.approx(range(1, many + 1))
    assert judgement.calibration().points == KEPT, "the latest, whosever they are"
    assert len(judgement.older) <= many * LEAST


def test_a_point_of_a_state_can_be_a_point_again() -> None:
    judgement = Judgement().with_point(judged())
    again = judgement.with_point(judgement.recent[0])
    assert again.recent == judgement.recent * 2


def test_a_geometry_that_is_seldom_labelled_keeps_what_is_known_of_it() -> None:
    judgement = Judgement()
    for _ in range(LEAST):
        judgement = judgement.with_point(judged(error=0.6).but(geometry=1))
    for _ in range(5 * KEPT):
        judgement = judgement.with_point(judged(error=0.2))
    assert judgement.calibration(1).factor == pytest.approx(3.0)
    assert (judgement.calibration().factor, judgement.calibration(0).points) == (1.0, KEPT)


def test_a_snapshot_that_knows_no_times_of_checks_weighs_by_all_of_them(
    fresh: CampaignState,
) -> None:
    state = checked(told(fresh, 0, 50, 50), 0, 100, 900)
    content = json.loads(state.judgement.model_dump_json())
    for one in content["recent"]:
        del one["checks"], one["own_checks"]
    del content["older"], content["by_geometry"]
    before = Judgement.model_validate(content)
    true = (0.6 + 9 * 0.1) / (0.2 + 9 * 0.1)
    assert before.calibration().factor == pytest.approx(true)
    later = state.but(judgement=before)
    for _ in range(10):
        later = checked(told(later, 0, KEPT // 20, KEPT // 20), 0, 100, 100)
    assert later.judgement.calibration(0).factor == pytest.approx(0.7 / 0.3, rel=0.05)
    assert later.judgement.calibration().factor == pytest.approx(0.7 / 0.3, rel=0.05)


def played(**changes: float) -> CampaignState:
    rules = make_rules(max_train_set_size=40, desired_acc=0.0)
    world = World(spreads=(0.02, 0.4), factor=1.5, **changes)
    return VirtualShell(rules, world, np.random.default_rng(1)).run()


def test_every_label_of_exploring_is_a_point_of_the_calibration() -> None:
    state = played()
    explored = [p for p in state.points.values() if p.trajectory is not None]
    labels = sum(p.status is PointStatus.LABELLED for p in explored)
    found = state.judgement.calibration()
    assert found is not None
    assert state.judgement.points == labels == found.points
    assert found.factor == pytest.approx(1.5, rel=0.1)
    assert state.judgement.above > 0 and state.judgement.below > state.judgement.above


def arrived(key: str) -> LabelArrived:
    return LabelArrived(key=key, wall_s=1.0, judged=judged())


def test_a_label_that_came_again_or_is_computed_again_counts_once() -> None:
    state = played()
    key = next(k for k, p in state.points.items() if p.trajectory is not None)
    assert apply(state, arrived(key)).judgement == state.judgement
    again = apply(apply(state, LabelsGone(keys=(key,))), arrived(key))
    assert again.points[key].status is PointStatus.LABELLED
    assert again.judgement == state.judgement


def test_a_structure_that_a_member_was_given_does_not_count() -> None:
    state = played()
    key = next(k for k, p in state.points.items() if p.trajectory is not None)
    point = state.points[key].but(status=PointStatus.REQUESTED)
    state = state.but(points={**state.points, key: point}, open_points=(key,))
    assert apply(state, arrived(key)).judgement.points == state.judgement.points + 1
    tag, member = next(iter(state.members.items()))
    given = {**state.members, tag: member.but(training=(*member.training, key))}
    assert apply(state.but(members=given), arrived(key)).judgement == state.judgement
