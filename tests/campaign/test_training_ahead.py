"""How much training is ahead: what decides whether compiling a network is worth it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.campaign.training_ahead import training_ahead_s
from tests.campaign.test_rules import make_rules

TAGS = ("a", "b")


def state(phase: Phase = Phase.ACTIVE, points: int = 20, **rules: Any) -> CampaignState:
    """Two members with so many points of which an epoch takes 0.1 s each."""
    given = {"epochs_per_round": 3, "max_train_set_size": math.inf, "converge_al": False}
    begun = CampaignState.begin(make_rules(tags=TAGS, **(given | rules)))
    keys = tuple(f"{index}" for index in range(points))
    return begun.but(phase=phase, training=keys, paces=(0.1,))


def ahead(now: CampaignState, explores: bool = True) -> float:
    return training_ahead_s(now, initial_epochs=10, final_epochs=50, explores=explores)


def test_each_point_to_come_is_trained_on_by_all_members() -> None:
    # From 20 points to 40: 3 epochs for each of both members, of 2 to 4 s.
    assert ahead(state()) == pytest.approx(20 * 3 * 2 * 3.0)
    assert ahead(state(max_train_set_size=25)) == pytest.approx(5 * 3 * 2 * 2.25)
    assert ahead(state(max_train_set_size=20)) == 0.0


@pytest.mark.parametrize(("best", "members"), [(True, 1), (False, 2)])
def test_a_convergence_at_the_end_is_counted_on_the_set_of_then(best: bool, members: int) -> None:
    now = state(max_train_set_size=30, converge_al=True, converge_best=best)
    rounds = ahead(state(max_train_set_size=30))
    assert ahead(now) - rounds == pytest.approx(50 * members * 3.0)
    assert ahead(now.but(phase=Phase.DRAIN)) == pytest.approx(50 * members * 2.0)


def test_while_members_converge_their_epochs_are_left() -> None:
    now = state(Phase.CONVERGE)
    one, other = now.members.values()
    members = {"a": one.but(converge_epochs=20), "b": other.but(converged=True)}
    assert ahead(now.but(members=members)) == pytest.approx(30 * 2.0)
    early = now.but(members=members, phase=Phase.INITIAL_CONVERGE)
    assert ahead(early, explores=False) == 0.0
    both = early.but(members={"a": one, "b": other})
    assert ahead(both, explores=False) == pytest.approx(2 * 10 * 2.0)
    assert ahead(both) == pytest.approx(2 * 10 * 2.0 + ahead(state()))


def test_nothing_is_ahead_before_anything_was_trained_and_when_all_is_done() -> None:
    assert ahead(state().but(paces=())) == 0.0
    assert ahead(state(points=0)) == 0.0
    assert ahead(state(Phase.PUBLISH)) == 0.0


def initial(**rules: Any) -> CampaignState:
    """Two members with 10 points each, of which an epoch takes 0.1 s, and 4 more in each round."""
    given = {
        "points_per_step": 2, "initial_valid_ratio": 0.0, "initial_epochs": 5,
        "max_initial_set_size": math.inf,
    }  # fmt: skip
    now = state(Phase.INITIAL, points=0, **(given | rules))
    members = {
        tag: member.but(training=tuple(f"{tag}{index}" for index in range(10)))
        for tag, member in now.members.items()
    }
    return now.but(members=members)


def test_rounds_of_the_initial_dataset_are_counted_up_to_their_limits() -> None:
    # From 10 points to 20 in three rounds of 5 epochs; or to 14 in one.
    assert ahead(initial(), explores=False) == pytest.approx(3 * 2 * 5 * 1.5)
    one = pytest.approx(1 * 2 * 5 * 1.2)
    assert ahead(initial(max_initial_set_size=28), explores=False) == one
    assert ahead(initial(max_initial_epochs=5), explores=False) == one
    assert ahead(initial(max_initial_set_size=20), explores=False) == 0.0


def test_a_run_of_the_initial_dataset_has_its_convergence_alone() -> None:
    now = initial(converge_initial=True, converge_al=True)
    without = ahead(initial(), explores=False)
    assert ahead(now, explores=False) - without == pytest.approx(2 * 10 * 2.0)
    # … and else also that of the end: from 20 points to 40, and 50 epochs of the best member.
    more = 20 * 3 * 2 * 3.0 + 50 * 4.0
    assert ahead(now) - ahead(now, explores=False) == pytest.approx(more)


def test_rounds_on_a_subset_take_its_time_and_a_convergence_that_of_all() -> None:
    now = state(train_subset=10, max_train_set_size=30, converge_al=True)
    assert ahead(now) == pytest.approx(10 * 3 * 2 * 1.0 + 50 * 3.0)


def test_a_convergence_on_all_is_counted_with_all_members_points() -> None:
    def converging(on: str | None, **rules: Any) -> CampaignState:
        given = {"max_train_set_size": 20, "converge_al": True, "converge_on": on}
        now = state(points=10, **(given | rules))
        members = {
            tag: member.but(training=tuple(f"{tag}{index}" for index in range(10)))
            for tag, member in now.members.items()
        }
        return now.but(members=members, validation=("v",))

    assert ahead(converging("own")) == pytest.approx(50 * 2.0)
    assert ahead(converging("all")) == pytest.approx(50 * 3.0)
    under_way = converging("all").but(phase=Phase.CONVERGE, converging_on="all")
    assert ahead(under_way) == pytest.approx(2 * 50 * 3.0)
