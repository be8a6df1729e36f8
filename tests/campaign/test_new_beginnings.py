"""Restarts from labels: who begins anew, from what, and that replaying gives the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from aimspax_core import random_streams
from aimspax_core.campaign import new_beginnings
from aimspax_core.campaign.actions import Propagate, Sample
from aimspax_core.campaign.events import LabelArrived
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Point, PointStatus
from tests.campaign.test_rules import after, exploring, launch, learnt, make_rules


def labelled(state: CampaignState, key: str = "k") -> CampaignState:
    """The state where the label that trajectory 0 asked for has arrived."""
    state = after(state, outcome="crossed", key=key, version=3, step=25)
    return apply(state, LabelArrived(key=key, wall_s=1.0))


def test_without_the_setting_a_trajectory_goes_on() -> None:
    for state in (exploring(), exploring(restart_shares=(0.0, 0.0))):
        first = labelled(state).trajectories[0]
        assert (first.origin, first.begun_anew) == (None, 0)


def test_after_its_label_a_trajectory_begins_anew_once_from_one_of_its_geometry() -> None:
    state = labelled(exploring(restart_shares=(1.0, 1.0)))
    first = state.trajectories[0]
    assert first.origin is not None
    assert state.points[first.origin].geometry == first.geometry
    assert state.points[first.origin].status is PointStatus.LABELLED
    assert (first.version, first.step, first.begun_anew) == (3, 25, 1)
    assert [t.origin for t in state.trajectories[1:]] == [None] * (len(state.trajectories) - 1)
    state = after(after(learnt(launch(state))), outcome="running", version=9, step=30)
    gone_on = state.trajectories[0]
    assert (gone_on.origin, gone_on.begun_anew, gone_on.version) == (None, 1, 9)


def test_one_that_explodes_goes_back_to_its_own_label() -> None:
    state = after(learnt(launch(labelled(exploring(restart_shares=(1.0, 1.0))))))
    back = after(state, outcome="exploded").trajectories[0]
    assert (back.origin, back.version, back.step) == (None, 3, 25)


def test_a_segment_that_is_lost_begins_anew_all_the_same() -> None:
    state = after(learnt(launch(labelled(exploring(restart_shares=(1.0, 1.0))))))
    (segment,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
    assert 0 in segment.trajectories
    assert state.trajectories[0].origin is not None


@pytest.mark.key("ActiveLearning", "restart_from_labels")
def test_the_share_is_that_of_the_labels_and_the_points_are_drawn_evenly() -> None:
    state = exploring(restart_shares=(0.3, 0.0))
    (first, *_) = (t for t in state.trajectories if t.geometry == 0)
    drawn = [
        new_beginnings.of_trajectory(state, first.but(waiting_for=f"label {number}"))
        for number in range(2000)
    ]
    begun = [origin for origin in drawn if origin is not None]
    assert len(begun) / len(drawn) == pytest.approx(0.3, abs=0.04)
    own = {p.key for p in state.points.values() if p.geometry == 0}
    assert set(begun) == own
    assert min(Counter(begun).values()) > 0.5 * len(begun) / len(own)
    other = next(t for t in state.trajectories if t.geometry == 1)
    assert new_beginnings.of_trajectory(state, other.but(waiting_for="label")) is None


def test_draws_differ_by_trajectory_label_and_seed_and_repeat_themselves() -> None:
    def draws(seed: int, index: int) -> list[str | None]:
        state = exploring(restart_shares=(0.5, 0.5)).but(
            rules=make_rules(seed=seed, restart_shares=(0.5, 0.5))
        )
        one = state.trajectories[0].but(index=index)
        return [new_beginnings.of_trajectory(state, one.but(waiting_for=f"{k}")) for k in range(40)]

    assert draws(1, 0) == draws(1, 0)
    assert draws(1, 0) != draws(1, 1)
    assert draws(1, 0) != draws(2, 0)


def test_what_was_labelled_for_analysis_or_failed_is_no_beginning() -> None:
    state = exploring(restart_shares=(1.0, 1.0))
    kept = {
        "seen": Point(key="seen", geometry=0, analysis=True, status=PointStatus.LABELLED),
        "bad": Point(key="bad", geometry=0, status=PointStatus.FAILED),
        "good": Point(key="good", geometry=0, status=PointStatus.LABELLED),
        "other": Point(key="other", geometry=1, status=PointStatus.LABELLED),
    }
    state = state.but(points=kept)
    first = state.trajectories[0]
    found = {new_beginnings.of_trajectory(state, first.but(waiting_for=str(n))) for n in range(20)}
    assert found == {"good"}


@pytest.mark.key("InitialDatasetGeneration", "restart_from_labels")
@pytest.mark.parametrize(("shares", "anew"), [((), False), ((1.0, 0.0), True)])
def test_a_sampling_step_begins_anew_from_a_label_of_an_earlier_one(
    shares: tuple[float, ...], anew: bool
) -> None:
    rules = make_rules(initial_restart_shares=shares)
    state = CampaignState.begin(rules)
    assert {a.origin for a in next_actions(state) if isinstance(a, Sample)} == {None}
    points = {
        "a": Point(key="a", geometry=0, sampling_step=1, status=PointStatus.LABELLED),
        "b": Point(key="b", geometry=1, sampling_step=1, status=PointStatus.LABELLED),
        "c": Point(key="c", geometry=0, sampling_step=2, status=PointStatus.LABELLED),
    }
    samplers = tuple(sampler.but(version=1, step=1) for sampler in state.samplers)
    state = state.but(points=points, sampling_step=2, samplers=samplers)
    origins = {a.geometry: a.origin for a in next_actions(state) if isinstance(a, Sample)}
    assert origins == {0: "a" if anew else None, 1: None}
    parts = state.but(samplers=tuple(s.but(parts=1, found=1) for s in samplers))
    assert {a.origin for a in next_actions(parts) if isinstance(a, Sample)} == {None}


def test_streams_of_different_kinds_have_numbers_of_their_own() -> None:
    numbers = [n for name, n in vars(random_streams).items() if name.endswith("_STREAM")]
    assert len(numbers) == len(set(numbers)) == 9


def test_a_draw_shares_no_numbers_with_the_md_of_the_same_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths: list[tuple[int, ...]] = []

    def seen(entropy: int, spawn_key: tuple[int, ...]) -> object:
        paths.append(spawn_key)
        return real(entropy, spawn_key=spawn_key)

    real = np.random.SeedSequence
    monkeypatch.setattr(np.random, "SeedSequence", seen)
    state = exploring(restart_shares=(0.5, 0.5), initial_restart_shares=(0.5, 0.5))
    paths.clear()
    new_beginnings.of_sampling(state, 0)
    new_beginnings.of_trajectory(state, state.trajectories[0].but(waiting_for="k"))
    assert [path[0] for path in paths] == [
        random_streams.SAMPLING_DRAW_STREAM,
        random_streams.EXPLORING_DRAW_STREAM,
    ]
