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


def ahead(now: CampaignState) -> float:
    return training_ahead_s(now, initial_epochs=10, final_epochs=50)


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
    assert ahead(early) == 0.0
    assert ahead(early.but(members={"a": one, "b": other})) == pytest.approx(2 * 10 * 2.0)


def test_nothing_is_ahead_before_anything_was_trained_and_when_all_is_done() -> None:
    assert ahead(state().but(paces=())) == 0.0
    assert ahead(state(points=0)) == 0.0
    assert ahead(state(Phase.PUBLISH)) == 0.0
