"""The rules, driven by the virtual shell over random orders, failures and losses."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimspax_core.campaign.actions import Converge, Label, Propagate, Sample, Train
from aimspax_core.campaign.events import (
    EVENT,
    Event,
    ExplorationAsked,
    LabelArrived,
    LabelFailed,
    Launched,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrajectoryResult,
)
from aimspax_core.campaign.exploration import MAX_ROLLBACKS, segment_budget_s
from aimspax_core.campaign.initial import MAX_BARREN_STEPS, split_share
from aimspax_core.campaign.rules import MAX_LOSSES, apply, next_actions
from aimspax_core.campaign.state import (
    CampaignState,
    Phase,
    PointStatus,
    Rules,
    TrajectoryStatus,
)
from aimspax_core.campaign.virtual import VirtualShell, World


def make_rules(**changes: object) -> Rules:
    numbers: dict[str, object] = {
        "tags": ("a-1", "a-2", "a-3"),
        "geometries": 2,
        "seed": 1,
        "points_per_step": 3,
        "initial_epochs": 5,
        "initial_accuracy": 0.4,
        "max_initial_epochs": math.inf,
        "max_initial_set_size": 200,
        "initial_valid_ratio": 0.2,
        "converge_initial": False,
        "num_trajectories": 6,
        "epochs_per_round": 2,
        "valid_ratio": 0.2,
        "desired_acc": 0.1,
        "max_train_set_size": 60,
        "freeze_threshold_dataset": math.inf,
        "c_x": 0.0,
        "max_md_steps": math.inf,
        "converge_al": True,
        "converge_best": True,
        "max_segments": 2,
    }
    return Rules.model_validate({**numbers, **changes})


worlds = st.builds(
    World,
    reference_slots=st.integers(1, 6),
    ml_slots=st.integers(1, 4),
    label_s=st.sampled_from([0.1, 5.0, 100.0]),
    segment_s=st.sampled_from([0.5, 5.0]),
    epoch_s=st.sampled_from([0.1, 3.0]),
    label_fails=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    task_lost=st.sampled_from([0.0, 0.05, 0.3]),
    explodes=st.sampled_from([0.0, 0.1, 0.5]),
    crosses=st.sampled_from([0.1, 0.5]),
    finishes=st.sampled_from([0.0, 0.05, 0.4]),
)
rule_sets = st.builds(
    make_rules,
    geometries=st.integers(1, 3),
    num_trajectories=st.integers(3, 7),
    points_per_step=st.integers(1, 4),
    initial_valid_ratio=st.sampled_from([0.0, 0.1, 0.5]),
    valid_ratio=st.sampled_from([0.0, 0.1, 0.5]),
    epochs_per_round=st.integers(1, 4),
    converge_initial=st.booleans(),
    converge_al=st.booleans(),
    converge_best=st.booleans(),
    freeze_threshold_dataset=st.sampled_from([math.inf, 20.0]),
    max_segments=st.integers(1, 4),
    desired_acc=st.sampled_from([0.0, 0.1, 0.3]),
)


class Watch:
    """Checks what must hold after every event."""

    def __init__(self) -> None:
        self.in_flight: set[str] = set()

    def __call__(self, state: CampaignState, event: Event) -> None:
        if isinstance(event, Launched):
            assert event.action.id not in self.in_flight, "launched twice"
        self.in_flight = set(state.in_flight)
        assert set(state.open_points) == {
            k for k, p in state.points.items() if p.status is PointStatus.REQUESTED
        }
        for trajectory in state.trajectories:
            self._remembered(state, trajectory.index)
        flying = [
            i for a in state.in_flight.values() if isinstance(a, Propagate) for i in a.trajectories
        ]
        assert len(flying) == len(set(flying)), "a trajectory in two segments"
        assert EVENT.validate_json(EVENT.dump_json(event)) == event

    def _remembered(self, state: CampaignState, index: int) -> None:
        """A trajectory that does not run is waiting for something that is still to come."""
        trajectory = state.trajectories[index]
        key = trajectory.waiting_for
        if trajectory.status is TrajectoryStatus.WAITING:
            assert key in state.open_points
        if trajectory.status is TrajectoryStatus.TRAINING and state.phase is Phase.ACTIVE:
            in_round = state.round.points if state.round else ()
            assert key in state.pending or key in in_round
        if trajectory.status is TrajectoryStatus.IN_SEGMENT:
            assert any(
                index in a.trajectories
                for a in state.in_flight.values()
                if isinstance(a, Propagate)
            )


def check_sets(state: CampaignState) -> None:
    """Every label is in the sets where it belongs, once, and nothing else is in any set."""
    labelled = {k for k, p in state.points.items() if p.status is PointStatus.LABELLED}
    initial = [k for m in state.members.values() for k in (*m.training, *m.validation)]
    active = [*state.training, *state.validation]
    assert max(Counter(initial + active).values(), default=1) == 1
    assert set(active) == {k for k in labelled if state.points[k].sampling_step is None}
    undealt = {
        k
        for k in labelled
        if state.points[k].sampling_step == state.sampling_step and k not in initial
    }
    assert set(initial) | undealt == {
        k for k in labelled if state.points[k].sampling_step is not None
    }
    if state.phase is Phase.FINISHED:
        assert not undealt


@settings(max_examples=150, deadline=None)
@given(rules=rule_sets, world=worlds, seed=st.integers(0, 2**32 - 1))
def test_any_campaign_ends_with_every_label_where_it_belongs(
    rules: Rules, world: World, seed: int
) -> None:
    shell = VirtualShell(rules, world, np.random.default_rng(seed), Watch())
    state = shell.run()
    assert state.phase in (Phase.FINISHED, Phase.FAILED)
    assert state.stop_reason
    check_sets(state)
    if state.phase is Phase.FINISHED:
        assert not state.open_points
        assert not state.in_flight


@settings(max_examples=60, deadline=None)
@given(rules=rule_sets, world=worlds, seed=st.integers(0, 2**32 - 1), stop=st.integers(1, 300))
def test_a_restart_at_any_event_asks_again_for_what_was_in_flight(
    rules: Rules, world: World, seed: int, stop: int
) -> None:
    shell = VirtualShell(rules, world, np.random.default_rng(seed))
    with pytest.raises(RuntimeError, match="no end"):
        shell.run(max_events=stop)
        raise RuntimeError("no end: it ended before the restart")
    flying = set(shell.state.in_flight)
    labels = {k for k, p in shell.state.points.items() if p.status is PointStatus.LABELLED}
    again = VirtualShell(rules, world, np.random.default_rng(seed + 1), Watch())
    again.state = apply(
        CampaignState.model_validate_json(shell.state.model_dump_json()), Resumed(rules=rules)
    )
    assert not again.state.in_flight
    again._structures = shell._structures
    asked = {a.id for a in next_actions(again.state)}
    assert {i for i in flying if i.startswith("label:")} <= asked
    state = again.run()
    check_sets(state)
    relabelled = {a.key for a in again.launched if isinstance(a, Label)} & labels
    assert not relabelled, "a label was paid for twice"


def test_the_same_state_gives_the_same_actions() -> None:
    state = apply(None, Started(rules=make_rules()))
    assert next_actions(state) == next_actions(state)
    assert [a.id for a in next_actions(state)] == ["sample:1:0", "sample:1:1"]


def test_state_comes_back_equal_from_json() -> None:
    shell = VirtualShell(make_rules(), World(), np.random.default_rng(3))
    with pytest.raises(RuntimeError, match="no end"):
        shell.run(max_events=120)
    assert CampaignState.model_validate_json(shell.state.model_dump_json()) == shell.state


def through_initial(rules: Rules, seed: int = 0) -> VirtualShell:
    shell = VirtualShell(rules, World(crosses=0.0), np.random.default_rng(seed))
    while shell.state.phase is not Phase.READY:
        for action in next_actions(shell.state):
            shell._launch(action)
        shell._start()
        import heapq

        shell.clock, _, action = heapq.heappop(shell._running)
        shell._free["reference" if isinstance(action, Label) else "ml"] += 1
        shell.tell(shell._outcome(action))
    shell.tell(ExplorationAsked())
    return shell


def launch(state: CampaignState) -> CampaignState:
    for action in next_actions(state):
        state = apply(state, Launched(action=action))
    return state


def segment(state: CampaignState, **changes: object) -> SegmentFinished:
    """The answer to the first segment in flight: all running, but for trajectory 0."""
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    plain = {"outcome": "running", "version": 7, "step": 50, "since_crossing": 50}
    results = tuple(
        TrajectoryResult.model_validate({"trajectory": i, **plain, **(changes if i == 0 else {})})
        for i in action.trajectories
    )
    return SegmentFinished(
        action_id=action.id, results=results, uncertainties=(0.1,) * len(results)
    )


def test_a_crossing_trajectory_waits_while_the_others_run() -> None:
    shell = through_initial(make_rules(max_segments=1))
    state = launch(shell.state)
    state = apply(state, segment(state, outcome="crossed", key="k"))
    assert state.trajectories[0].status is TrajectoryStatus.WAITING
    wanted = next_actions(state)
    assert Label(key="k") in wanted
    assert [a.trajectories for a in wanted if isinstance(a, Propagate)] == [(1, 2, 3, 4, 5)]


def test_a_labelled_structure_is_trained_on_before_its_trajectory_runs_on() -> None:
    shell = through_initial(make_rules(max_segments=1))
    state = launch(shell.state)
    state = apply(state, segment(state, outcome="crossed", key="k"))
    state = apply(state, LabelArrived(key="k", wall_s=1.0))
    assert state.trajectories[0].status is TrajectoryStatus.TRAINING
    assert state.round is not None
    assert state.round.points == ("k",)
    assert {a.tag for a in next_actions(state) if isinstance(a, Train)} == set(state.rules.tags)
    assert state.dataset("a-1")[0][-1] == "k"


def test_a_failed_label_sends_the_trajectory_back_with_new_noise() -> None:
    shell = through_initial(make_rules(max_segments=1))
    state = launch(shell.state)
    state = apply(state, segment(state, outcome="crossed", key="k"))
    state = apply(state, LabelFailed(key="k", reason="SCF"))
    trajectory = state.trajectories[0]
    assert (trajectory.status, trajectory.version, trajectory.step) == ("running", 0, 0)
    assert trajectory.rollbacks == 1
    assert state.points["k"].reason == "SCF"


def test_a_label_that_arrives_twice_counts_once() -> None:
    shell = through_initial(make_rules(max_segments=1))
    state = launch(shell.state)
    state = apply(state, segment(state, outcome="crossed", key="k"))
    once = apply(state, LabelArrived(key="k", wall_s=1.0))
    assert apply(once, LabelArrived(key="k", wall_s=1.0)) == once


def test_a_trajectory_that_always_explodes_is_given_up() -> None:
    shell = through_initial(make_rules(max_segments=1))
    state = shell.state
    for _ in range(MAX_ROLLBACKS):
        state = launch(state)
        state = apply(state, segment(state, outcome="exploded"))
    assert state.trajectories[0].status is TrajectoryStatus.FAILED
    assert state.phase is Phase.ACTIVE


def test_points_that_come_during_a_round_share_the_next_one() -> None:
    shell = through_initial(make_rules(max_segments=1, valid_ratio=0.0))
    state = launch(shell.state)
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    results = tuple(
        TrajectoryResult(
            trajectory=i, outcome="crossed", version=1, step=25, since_crossing=0, key=f"k{i}"
        )
        for i in action.trajectories
    )
    state = apply(
        state, SegmentFinished(action_id=action.id, results=results, uncertainties=(0.1,) * 6)
    )
    for i in range(3):
        state = apply(state, LabelArrived(key=f"k{i}", wall_s=1.0))
    assert state.round is not None
    assert state.round.points == ("k0",)
    assert state.pending == ("k1", "k2")
    assert state.dataset("a-1")[0][-1] == "k0", "a round trains on what was there at its start"


def test_labels_in_flight_at_the_end_enter_the_final_sets() -> None:
    rules = make_rules(max_segments=1, valid_ratio=0.0, max_train_set_size=10_000)
    shell = through_initial(rules)
    state = apply(
        shell.state,
        Resumed(
            rules=rules.model_copy(update={"max_train_set_size": shell.state.training_set_size + 1})
        ),
    )
    state = launch(state)
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    results = tuple(
        TrajectoryResult(
            trajectory=i, outcome="crossed", version=1, step=25, since_crossing=0, key=f"k{i}"
        )
        for i in action.trajectories[:2]
    )
    state = apply(
        state, SegmentFinished(action_id=action.id, results=results, uncertainties=(0.1, 0.1))
    )
    state = apply(state, LabelArrived(key="k0", wall_s=1.0))
    assert state.phase is Phase.DRAIN
    assert state.stop_reason.startswith("max_train_set_size")
    state = apply(state, LabelArrived(key="k1", wall_s=1.0))
    assert state.training == ("k0", "k1")
    assert state.phase is Phase.CONVERGE
    assert all(isinstance(a, Converge) for a in next_actions(state))


def test_a_finished_campaign_stays_finished_until_a_rule_changes() -> None:
    rules = make_rules()
    state = VirtualShell(rules, World(), np.random.default_rng(5)).run()
    assert state.phase is Phase.FINISHED
    assert apply(state, Resumed(rules=rules)).phase is Phase.FINISHED
    assert next_actions(state) == []
    more = rules.model_copy(update={"desired_acc": 0.0, "max_train_set_size": 10_000})
    reopened = apply(state, Resumed(rules=more))
    assert reopened.phase is Phase.ACTIVE
    assert next_actions(reopened)


def test_longer_trajectories_reopen_a_campaign_whose_trajectories_finished() -> None:
    rules = make_rules(max_md_steps=100, desired_acc=0.0, max_train_set_size=math.inf)
    state = VirtualShell(rules, World(finishes=0.5), np.random.default_rng(5)).run()
    assert state.stop_reason.startswith("all trajectories")
    more = rules.model_copy(update={"max_md_steps": 10_000})
    assert apply(state, Resumed(rules=more)).phase is Phase.ACTIVE


def test_threshold_freezes_at_the_training_set_size_asked_for() -> None:
    rules = make_rules(freeze_threshold_dataset=1, desired_acc=0.0)
    state = VirtualShell(rules, World(), np.random.default_rng(1)).run()
    assert state.window.frozen is not None


def test_no_usable_label_at_all_ends_with_the_reason() -> None:
    world = World(label_fails=1.0)
    state = VirtualShell(make_rules(), world, np.random.default_rng(0)).run()
    assert state.phase is Phase.FAILED
    assert "no usable label" in state.stop_reason
    assert "virtual SCF not converged" in state.stop_reason
    assert state.sampling_step == MAX_BARREN_STEPS + 1


def test_a_task_that_is_always_lost_stops_the_campaign_and_a_restart_tries_again() -> None:
    state = launch(apply(None, Started(rules=make_rules())))
    for _ in range(MAX_LOSSES):
        state = launch(apply(state, TaskLost(action_id="sample:1:0", reason="worker died")))
    assert state.phase is Phase.FAILED
    assert "worker died" in state.stop_reason
    again = apply(state, Resumed(rules=state.rules))
    assert again.phase is Phase.INITIAL
    assert Sample(geometry=0, step=1, points=9) in next_actions(again)


def test_a_label_lost_too_often_counts_as_failed() -> None:
    state = launch(apply(None, Started(rules=make_rules(geometries=1))))
    state = apply(state, Sampled(action_id="sample:1:0", geometry=0, version=1, found=("k", "l")))
    for _ in range(MAX_LOSSES):
        state = apply(launch(state), TaskLost(action_id="label:k", reason="killed"))
    assert state.points["k"].status is PointStatus.FAILED
    assert state.points["l"].status is PointStatus.REQUESTED


@pytest.mark.parametrize(
    ("total", "in_validation", "ratio", "expected"),
    [(5, 0, 0.1, 1), (10, 1, 0.1, 0), (20, 1, 0.1, 1), (1, 0, 0.5, 0), (2, 0, 0.0, 1), (10, 0, 0.5, 5)],
)  # fmt: skip
def test_validation_gets_its_share_and_at_least_one(
    total: int, in_validation: int, ratio: float, expected: int
) -> None:
    assert split_share(total, in_validation, ratio) == expected


def test_segment_budget_is_a_hundredth_of_a_label_within_bounds() -> None:
    state = apply(None, Started(rules=make_rules()))
    assert segment_budget_s(state) == 2.0
    assert segment_budget_s(state.but(label_seconds=(1000.0,))) == 10.0
    assert segment_budget_s(state.but(label_seconds=(1e6, 1e6, 1.0))) == 30.0


def test_rules_refuse_events_before_the_start() -> None:
    with pytest.raises(ValueError, match="before the campaign started"):
        apply(None, ExplorationAsked())
