"""Candidates: which of the structures that wait for a label get it, and which do not."""

from __future__ import annotations

import numpy as np
import pytest

from aimspax_core.campaign.actions import Label, Propagate
from aimspax_core.campaign.candidates import expected_errors, known, refusals
from aimspax_core.campaign.events import (
    EVENT,
    CandidatesRefused,
    Event,
    ExplorationAsked,
    LabelArrived,
    Launched,
    Paused,
    Resumed,
    SegmentFinished,
    TaskLost,
    TrajectoryResult,
)
from aimspax_core.campaign.judged import Judged
from aimspax_core.campaign.rounds import close_round, open_round
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.report.candidates_text import candidates_text
from aimspax_core.report.progress import progress_text
from aimspax_core.uncertainty import nearness
from aimspax_core.uncertainty.calibration import LEAST
from aimspax_core.verification.ledger import Ledger
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World


def exploring(**changes: object) -> CampaignState:
    """A campaign that begins to explore, all trajectories in one segment."""
    given = {"candidates": "largest_error", "label_slots": 2, "max_segments": 1, "desired_acc": 0.0}
    shell = VirtualShell(make_rules(**{**given, **changes}), World(), np.random.default_rng(1))
    while shell.state.phase is not Phase.READY:
        shell.advance()
    state = shell.tell(ExplorationAsked())
    for action in next_actions(state):
        state = apply(state, Launched(action=action))
    return state


def crossed(state: CampaignState, *spreads: float, reason: str = "uncertainty") -> CampaignState:
    """Let trajectories 0, 1, … cross with these uncertainties."""
    (segment,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
    event = SegmentFinished(
        action_id=segment.id,
        results=tuple(
            TrajectoryResult(
                trajectory=index, outcome="crossed", version=segment.number, step=10,
                since_crossing=0, key=f"found-{index}", reason=reason,
            )
            for index in range(len(spreads))
        ),
        uncertainties=spreads,
        checked=tuple(range(len(spreads))),
    )  # fmt: skip
    return apply(state, event)


def labels(state: CampaignState) -> list[str]:
    return [action.key for action in next_actions(state) if isinstance(action, Label)]


def launched(state: CampaignState, *keys: str) -> CampaignState:
    for key in keys:
        state = apply(state, Launched(action=Label(key=key)))
    return state


SPREADS = (0.1, 0.4, 0.2, 0.3)


@pytest.mark.key("ActiveLearning", "candidates")
def test_where_more_wait_than_slots_are_free_the_largest_errors_come_first() -> None:
    assert labels(crossed(exploring(), *SPREADS)) == ["found-1", "found-3"]
    first = crossed(exploring(candidates="first"), *SPREADS)
    assert labels(first) == ["found-0", "found-1", "found-2", "found-3"]


def test_where_slots_are_free_all_get_a_label_in_their_order() -> None:
    state = crossed(exploring(label_slots=4), *SPREADS)
    assert labels(state) == ["found-0", "found-1", "found-2", "found-3"]


def test_a_slot_that_becomes_free_goes_to_the_next_largest() -> None:
    state = launched(crossed(exploring(), *SPREADS), "found-1", "found-3")
    assert labels(state) == []
    assert labels(apply(state, LabelArrived(key="found-3", wall_s=1.0))) == ["found-2"]


def test_equal_errors_come_in_the_order_in_which_they_were_found() -> None:
    assert labels(crossed(exploring(), 0.2, 0.2, 0.2)) == ["found-0", "found-1"]


def test_errors_are_those_that_the_calibration_of_the_geometry_expects() -> None:
    """Trajectory i is of geometry i mod 2, where 1 errs ten times as much with the same spread."""
    state = exploring()
    for number in range(LEAST):
        for geometry, factor in enumerate((1.0, 10.0)):
            spread = 0.01 * (1 + number)
            point = Judged(
                geometry=geometry, spread=spread, error=factor * spread, above=True,
                energy_spread=0.0, energy_error=0.0, atoms=3,
            )  # fmt: skip
            state = state.but(judgement=state.judgement.with_point(point))
    state = crossed(state, 0.4, 0.1, 0.3, 0.05)
    points = [state.points[f"found-{index}"] for index in range(4)]
    assert expected_errors(state, points) == pytest.approx([0.4, 1.0, 0.3, 0.5])
    assert labels(state) == ["found-1", "found-3"]


def test_what_was_taken_because_nothing_had_crossed_for_long_is_not_chosen_among() -> None:
    state = crossed(exploring(), *SPREADS, reason="limit")
    assert labels(state) == ["found-0", "found-1", "found-2", "found-3"]


def test_the_control_is_not_chosen_among() -> None:
    state = crossed(exploring(random_share=0.5), *SPREADS)
    assert labels(state) == ["found-0", "found-1", "found-2", "found-3"]
    assert refusals(state.but(rounds=state.rounds + 1)) is None


def renewed() -> CampaignState:
    """Two labels are under way, two structures wait, and there is a new ensemble."""
    state = launched(crossed(exploring(), *SPREADS), "found-1", "found-3")
    assert refusals(state) is None
    return state.but(rounds=state.rounds + 1)


def test_what_an_ensemble_before_has_judged_is_refused_and_its_trajectory_goes_on() -> None:
    state = renewed()
    event = refusals(state)
    assert event is not None
    assert [(one.key, one.why) for one in event.refusals] == [
        ("found-0", "renewed"), ("found-2", "renewed"),
    ]  # fmt: skip
    after = apply(state, EVENT.validate_json(event.model_dump_json()))
    assert refusals(after) is None
    assert after.open_points == ("found-1", "found-3")
    assert {"found-0", "found-2"}.isdisjoint(after.points)
    for index in (0, 2):
        sent_on, was = after.trajectories[index], state.trajectories[index]
        assert sent_on.status is TrajectoryStatus.RUNNING
        assert (sent_on.version, sent_on.step) == (was.version, was.step)
        assert sent_on.rollbacks == 0
    assert after.candidates_refused == {"renewed": 2}
    assert after.labels == state.labels
    assert "2 candidates passed over" in progress_text(after)
    assert "2 (a new ensemble" in candidates_text(event)


def test_a_segment_of_the_ensemble_before_lands_among_what_is_refused() -> None:
    state = exploring()
    state = crossed(state.but(rounds=state.rounds + 1, ensemble=("x", "y", "z")), *SPREADS)
    event = refusals(state)
    assert event is not None
    assert len(event.refusals) == 4


def test_a_round_that_all_sit_out_leads_to_no_new_ensemble_and_what_waits_goes_on_waiting() -> None:
    given = exploring(counts_ensembles=True)
    state = launched(crossed(given, *SPREADS), "found-1", "found-3")
    same, _ = close_round(open_round(state, "active", 2, ()))
    assert (same.rounds, same.ensemble) == (state.rounds + 1, state.ensemble)
    assert refusals(same) is None
    before_counting = same.but(rules=same.rules.but(counts_ensembles=False))
    assert refusals(before_counting) is not None, "campaigns of then go on as they were"
    tag, member = next(iter(same.members.items()))
    trained = same.but(members={**same.members, tag: member.but(checkpoint="another")})
    event = refusals(close_round(open_round(trained, "active", 2, ()))[0])
    assert event is not None
    assert {one.why for one in event.refusals} == {"renewed"}


# ---- novelty --------------------------------------------------------------------------------


def placed(state: CampaignState, **places: tuple[float, tuple[float, ...]]) -> CampaignState:
    """Let structures be at these distances from known ones, with these sketches."""
    points = {
        key: state.points[key].but(distance=distance, sketch=sketch, unit=1.0)
        for key, (distance, sketch) in places.items()
    }
    return state.but(points={**state.points, **points})


def near(state: CampaignState) -> list[str]:
    event = refusals(state)
    return [] if event is None else [one.key for one in event.refusals if one.why == "near"]


@pytest.mark.key("ActiveLearning", "novelty")
def test_what_is_nearly_the_same_as_what_is_known_gets_no_label() -> None:
    places = {"found_0": (0.4, (0.0,)), "found_1": (0.6, (9.0,))}
    places = {key.replace("_", "-"): place for key, place in places.items()}
    state = placed(crossed(exploring(novelty=0.5), *SPREADS), **places)
    assert near(state) == ["found-0"]
    assert near(state.but(rules=state.rules.but(novelty=0.0))) == []


def test_of_two_that_are_nearly_the_same_the_one_with_the_larger_error_stays() -> None:
    """Trajectories 1 and 3 are of one geometry, 0 and 2 of another."""
    same = {f"found-{index}": (2.0, (0.1 * index, 1.0)) for index in range(4)}
    state = placed(crossed(exploring(novelty=0.5), *SPREADS), **same)
    assert sorted(near(state)) == ["found-0", "found-3"]
    after = apply(state, refusals(state))
    assert labels(after) == ["found-1", "found-2"]
    assert after.candidates_refused == {"near": 2}


def test_what_is_nearly_the_same_as_a_label_under_way_is_refused() -> None:
    state = launched(crossed(exploring(novelty=0.5), *SPREADS), "found-3")
    state = placed(state, **{"found-1": (2.0, (0.0,)), "found-3": (2.0, (0.3,))})
    assert near(state) == ["found-1"]
    other = state.points["found-3"].but(judged_in=state.rounds - 1)
    state = state.but(points={**state.points, "found-3": other})
    assert near(state) == [], "features of two ensembles are not compared"


def test_one_structure_of_two_segments_gets_one_label_though_more_was_known_in_the_second() -> None:
    """What tells structures apart is a thousandth of their features."""
    features = 1000.0 + np.random.default_rng(0).normal(size=(15, 300))
    segments = {"found-0": (0, 12), "found-1": (1, 14), "found-3": (0, 15)}
    state = crossed(exploring(novelty=0.5), *SPREADS)
    points = dict(state.points)
    for key, (asked, many) in segments.items():
        (place,) = nearness.places([features[asked]], features[2:many])
        assert place is not None
        points[key] = points[key].but(geometry=0, **vars(place))
    assert near(state.but(points=points)) == ["found-0"]


def test_candidates_are_held_against_what_is_trained_on_and_what_is_under_way() -> None:
    state = launched(crossed(exploring(novelty=0.5), *SPREADS), "found-3")
    found = known(state)
    assert found[-1] == "found-3"
    assert "found-1" not in found
    assert {key for m in state.members.values() for key in m.training} <= set(found)
    assert known(state.but(rules=state.rules.but(novelty=0.0))) == ()
    looked_at = state.points["found-3"].but(analysis=True)
    state = state.but(points={**state.points, "found-3": looked_at})
    assert "found-3" not in known(state), "nobody trains on it"


# ---- the end, and what was begun ------------------------------------------------------------


def test_as_the_campaign_ends_no_label_is_begun_any_more() -> None:
    state = launched(crossed(exploring(), *SPREADS), "found-1", "found-3")
    event = refusals(state.but(phase=Phase.DRAIN))
    assert event is not None
    assert {one.why for one in event.refusals} == {"ended"}
    assert refusals(apply(state, Paused(time=0.0, by="somebody"))) is None


def test_a_label_that_was_begun_is_begun_again_whatever_became_of_it() -> None:
    state = launched(crossed(exploring(), *SPREADS), "found-1", "found-3")
    lost = apply(state, TaskLost(action_id="label:found-3", reason="died"))
    assert labels(lost) == ["found-3"]
    again = apply(state, Resumed(rules=state.rules))
    assert labels(again) == ["found-1", "found-3"]
    event = refusals(again.but(rounds=again.rounds + 1))
    assert event is not None
    assert {one.key for one in event.refusals} == {"found-0", "found-2"}


def test_a_campaign_that_chooses_ends_and_an_independent_reader_agrees() -> None:
    events: list[Event] = []
    world = World(reference_slots=2, label_s=30.0, spreads=(0.1, 0.3), factor=1.2)
    rules = make_rules(candidates="largest_error", label_slots=2, desired_acc=0.0)
    shell = VirtualShell(
        rules, world, np.random.default_rng(3), lambda _, event: events.append(event)
    )
    state = shell.run(20_000)
    complaints: list[str] = []
    ledger = Ledger(complain=lambda kind, what: complaints.append(f"{kind}: {what}"))
    begun = [{"kind": "started", "rules": rules.model_dump(mode="json")}]
    for event in [*begun, *(one.model_dump(mode="json") for one in events)]:
        ledger.take(event)
    assert complaints == []
    assert ledger.passed_over == state.candidates_refused != {}
    assert any(isinstance(event, CandidatesRefused) for event in events)


def costing(*core_hours: float, **changes: object) -> CampaignState:
    """A campaign that begins to explore; labels of its geometries are known to take this."""
    return exploring(**changes).but(costliest=core_hours, core_hours=0.0)


@pytest.mark.parametrize("reason", ["uncertainty", "limit"])
def test_what_the_budget_has_nothing_left_for_takes_no_slot(reason: str) -> None:
    begun = costing(5.0, 1.0, limits={"budget_core_hours": 3.0}, label_slots=1, num_trajectories=4)
    of = [t.geometry for t in begun.trajectories]
    state = crossed(begun, *(0.4 if geometry == 0 else 0.1 for geometry in of))
    dear = [f"found-{index}" for index, geometry in enumerate(of) if geometry == 0]
    cheap = [f"found-{index}" for index, geometry in enumerate(of) if geometry == 1]
    if reason == "limit":  # they are not chosen among
        points = {key: state.points[key].but(uncertainty=None) for key in dear}
        state = state.but(points={**state.points, **points})
    assert len(dear) == len(cheap) == 2
    assert labels(state) == cheap[:1]


def test_the_last_of_a_budget_is_for_the_largest_error() -> None:
    state = costing(1.0, 1.0, limits={"budget_core_hours": 2.0}, label_slots=4, num_trajectories=4)
    assert set(labels(crossed(state, *SPREADS))) == {"found-1", "found-3"}
