"""The rules, driven by the virtual shell over random orders, failures and losses."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimspax_core.campaign.actions import Converge, Label, Propagate, Publish, Sample, Train
from aimspax_core.campaign.events import (
    EVENT,
    Event,
    ExplorationAsked,
    LabelArrived,
    LabelFailed,
    LabelsGone,
    Launched,
    ParametersSet,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.exploration import segment_budget_s
from aimspax_core.campaign.flight import tries_of
from aimspax_core.campaign.initial import MAX_BARREN_STEPS, split_share
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus, TrajectoryStatus
from aimspax_core.campaign.trajectories import MAX_ROLLBACKS
from aimspax_core.labels.tries import LABEL, MAX_GIVEN_UP_IN_A_ROW, TASK, Tries
from aimspax_core.report.progress import progress_text
from aimspax_core.verification.ledger import Ledger
from tests.campaign.virtual import VirtualShell, World


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
    looks=st.sampled_from([0.0, 0.5]),
    comes_back=st.sampled_from([0.0, 0.6]),
    diverges=st.sampled_from([0.0, 0.1]),
    damaged=st.sampled_from([0.0, 0.05, 0.3]),
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
    converge_on=st.sampled_from([None, "own", "all"]),
    converge_on_analysis=st.booleans(),
    assessed=st.booleans(),
    freeze_threshold_dataset=st.sampled_from([math.inf, 20.0]),
    max_segments=st.integers(1, 4),
    desired_acc=st.sampled_from([0.0, 0.1, 0.3]),
    distinct_sets=st.booleans(),
    train_subset=st.sampled_from([None, 4]),
    update_checkpoints=st.booleans(),
    samples_ahead=st.booleans(),
    pays_again=st.booleans(),
    counts_ensembles=st.booleans(),
    counts_all_costs=st.booleans(),
    initial_accuracy=st.sampled_from([0.0, 0.2, 0.4]),
    candidates=st.sampled_from(["first", "largest_error"]),
    label_slots=st.integers(1, 6),
    novelty=st.sampled_from([0.0, 0.5]),
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
        assert EVENT.validate_json(event.model_dump_json()) == event

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
    labelled = {
        k for k, p in state.points.items() if p.status is PointStatus.LABELLED and not p.analysis
    }
    initial = [k for m in state.members.values() for k in (*m.training, *m.validation)]
    if not state.rules.distinct_sets:
        each = [(*m.training, *m.validation) for m in state.members.values()]
        assert all(sorted(keys) == sorted(each[0]) for keys in each)
        initial = list(each[0])
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


@pytest.mark.parametrize("seed", [13, 34])
def test_nothing_is_published_while_epochs_that_were_lost_are_made_up(seed: int) -> None:
    published: list[CampaignState] = []

    def watch(state: CampaignState, event: Event) -> None:
        if isinstance(event, Launched) and isinstance(event.action, Publish):
            published.append(state)

    rules = make_rules(
        geometries=1, num_trajectories=3, points_per_step=1, initial_valid_ratio=0.0,
        valid_ratio=0.0, epochs_per_round=1, max_segments=1, desired_acc=0.0, distinct_sets=False,
        update_checkpoints=False,
    )  # fmt: skip
    world = World(label_s=0.1, segment_s=0.5, epoch_s=3.0, crosses=0.1, diverges=0.1, damaged=0.3)
    state = VirtualShell(rules, world, np.random.default_rng(seed), watch).run()
    assert state.phase is Phase.FINISHED and not state.in_flight
    assert {state.round for state in published} == {None}


@settings(max_examples=60, deadline=None)
@given(rules=rule_sets, world=worlds, seed=st.integers(0, 2**32 - 1), stop=st.integers(1, 300))
def test_a_restart_at_any_event_asks_again_for_what_was_in_flight(
    rules: Rules, world: World, seed: int, stop: int
) -> None:
    shell = VirtualShell(rules, world, np.random.default_rng(seed), Watch())
    with contextlib.suppress(RuntimeError):  # no end yet
        shell.run(max_events=stop)
    flying = set(shell.state.in_flight)
    labels = {k for k, p in shell.state.points.items() if p.status is PointStatus.LABELLED}
    failed, finished = shell.state.phase is Phase.FAILED, shell.state.finished
    shell.state = CampaignState.model_validate_json(shell.state.model_dump_json())
    shell.launched.clear()
    shell.restart()
    assert not shell.state.in_flight
    if not failed and not finished:
        asked = {a.id for a in next_actions(shell.state)}
        assert {i for i in flying if i.startswith("label:")} <= asked
    state = shell.run()
    check_sets(state)
    assert state.stop_reason
    relabelled = {a.key for a in shell.launched if isinstance(a, Label)} & labels
    assert not relabelled, "a label was paid for twice"
    if finished:
        assert not shell.launched


def test_errors_of_what_was_published_are_told_until_it_is_trained_again() -> None:
    """Where the last training was cut short, its energies are solved for as it is published."""
    rules = make_rules(max_train_set_size=25, desired_acc=0.0, converge_best=False)
    shell = VirtualShell(rules, World(settles=True), np.random.default_rng(1))
    *_, last = shell.run().members.values()
    assert last.settled is not None and last.last_errors == last.settled != last.best
    assert shell.state.members[rules.tags[0]].settled is None
    shell.tell(ParametersSet(rules=rules.but(max_train_set_size=30.0), values=()))
    assert {m.settled for m in shell.state.members.values()} == {None}


def test_without_convergence_the_errors_that_are_told_are_those_of_what_was_published() -> None:
    rules = make_rules(max_train_set_size=25, desired_acc=0.0, converge_al=False)
    shell = VirtualShell(rules, World(), np.random.default_rng(1))
    state = shell.run_until(lambda state: state.phase is Phase.PUBLISH)
    before, tag = state.mean_force_mae, next(iter(state.members))
    late = state.members[tag].errors
    assert before is not None and late is not None
    after = apply(state, Published(what="final", settled={tag: late.but(mae_f=late.mae_f + 0.3)}))
    assert after.mean_force_mae == before
    assert progress_text(after).endswith(f"force MAE {1000 * (before + 0.1):.1f} meV/Å")


def test_held_out_errors_of_a_model_that_is_not_the_published_one_are_forgotten() -> None:
    shell = VirtualShell(make_rules(max_train_set_size=25), World(), np.random.default_rng(1))
    state = shell.run_until(lambda state: state.phase is Phase.PUBLISH)
    errors = next(m.errors for m in state.members.values() if m.errors)
    members = {
        t: m.but(assessed=errors, assessed_at=m.checkpoint, assessed_by={"0": errors})
        for t, m in state.members.items()
    }
    *others, tag = state.members
    after = apply(state.but(members=members), Published(what="final", settled={tag: errors}))
    found = after.members[tag]
    assert (found.assessed, found.assessed_at, found.assessed_by) == (None, None, {})
    assert all(after.members[t].assessed == errors for t in others)


def test_held_out_errors_of_what_was_published_take_the_place_of_its_checkpoints() -> None:
    shell = VirtualShell(make_rules(max_train_set_size=25), World(), np.random.default_rng(1))
    state = shell.run_until(lambda state: state.phase is Phase.PUBLISH)
    *_, tag = state.members
    errors = next(m.errors for m in state.members.values() if m.errors)
    event = Published(
        what="final",
        settled={tag: errors},
        assessed={tag: errors},
        assessed_by={tag: {"0": errors}},
    )
    after = apply(state, event)
    assert (after.members[tag].assessed, after.members[tag].assessed_by) == (errors, {"0": errors})
    assert [m.assessed for t, m in after.members.items() if t != tag] == [
        m.assessed for t, m in state.members.items() if t != tag
    ]


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
        shell.advance()
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
    for _ in range(TASK.died):
        state = launch(apply(state, TaskLost(action_id="sample:1:0", reason="worker died")))
    assert state.phase is Phase.FAILED
    assert "worker died" in state.stop_reason
    again = apply(state, Resumed(rules=state.rules))
    assert again.phase is Phase.INITIAL
    assert Sample(geometry=0, step=1, points=9) in next_actions(again)


def test_a_label_lost_too_often_counts_as_failed() -> None:
    state = launch(apply(None, Started(rules=make_rules(geometries=1))))
    state = apply(state, Sampled(action_id="sample:1:0", geometry=0, version=1, found=("k", "l")))
    for _ in range(LABEL.died):
        state = apply(launch(state), TaskLost(action_id="label:k", reason="killed"))
    assert state.points["k"].status is PointStatus.FAILED
    assert state.points["l"].status is PointStatus.REQUESTED


@pytest.mark.parametrize(
    ("total", "in_validation", "ratio", "expected"),
    [
        (5, 0, 0.1, 1),
        (10, 1, 0.1, 0),
        (20, 1, 0.1, 1),
        (1, 0, 0.5, 0),
        (2, 0, 0.0, 1),
        (10, 0, 0.5, 5),
        (10, 0, 0.3, 3),  # not 2.9999…
        (4, 3, 0.5, 0),
    ],
)
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


# ---- what a trajectory goes through ---------------------------------------------------------


def exploring(**rules: object) -> CampaignState:
    """The first moment of active learning; all trajectories are in one segment."""
    return launch(through_initial(make_rules(max_segments=1, valid_ratio=0.0, **rules)).state)


def after(state: CampaignState, **changes: object) -> CampaignState:
    """The segment in flight ends for trajectory 0 as told; the next one is launched."""
    return launch(apply(state, segment(state, **changes)))


def learnt(state: CampaignState, mae_f: float = 1.0) -> CampaignState:
    """Every training in flight comes back."""
    for action in tuple(state.in_flight.values()):
        if isinstance(action, Train):
            state = apply(state, finished(action, mae_f))
    return launch(state)


def finished(action: Train, *mae_f: float) -> TrainingFinished:
    errors = tuple(
        Errors(
            epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=mae, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
            mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1,
            seconds=1.0,
        )
        for mae in mae_f
    )  # fmt: skip
    return TrainingFinished(
        action_id=action.id,
        tag=action.tag,
        checkpoint=action.checkpoint,
        epochs=action.epochs,
        errors=errors,
    )


def test_a_labelled_structure_becomes_the_checkpoint_to_go_back_to() -> None:
    state = after(exploring(), outcome="crossed", key="k", version=3, step=25)
    state = learnt(launch(apply(state, LabelArrived(key="k", wall_s=1.0))))
    served = state.trajectories[0]
    assert (served.checkpoint, served.checkpoint_step) == (3, 25)
    state = after(after(state), outcome="running", version=4, step=75, since_crossing=50)
    assert state.trajectories[0].version == 4
    state = after(state, outcome="exploded", version=4, step=80)
    back = state.trajectories[0]
    assert (back.version, back.step, back.since_crossing) == (3, 25, 0)
    assert (back.rollbacks, back.rollbacks_in_a_row) == (1, 1)


def test_the_next_segment_after_a_round_has_the_new_ensemble() -> None:
    state = after(exploring(), outcome="crossed", key="k")
    state = launch(apply(state, LabelArrived(key="k", wall_s=1.0)))
    (before,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
    state = after(learnt(state))
    (now,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
    assert now.checkpoints == tuple(m.checkpoint for m in state.members.values())
    assert not set(now.checkpoints) & set(before.checkpoints)


def test_a_label_ends_a_row_of_rollbacks() -> None:
    state = after(exploring(), outcome="exploded")
    assert state.trajectories[0].rollbacks_in_a_row == 1
    state = after(state, outcome="crossed", key="k", since_crossing=0)
    state = apply(state, LabelArrived(key="k", wall_s=1.0))
    assert (state.trajectories[0].rollbacks, state.trajectories[0].rollbacks_in_a_row) == (1, 0)


def test_steps_without_a_crossing_are_counted_anew_after_a_label() -> None:
    state = after(exploring(), outcome="crossed", key="k", since_crossing=60)
    assert state.trajectories[0].since_crossing == 60
    state = apply(state, LabelArrived(key="k", wall_s=1.0))
    assert state.trajectories[0].since_crossing == 0


def test_a_validation_point_lets_its_trajectory_run_on_at_once() -> None:
    state = exploring().but(training=("p",), rules=make_rules(max_segments=1, valid_ratio=0.5))
    state = after(state, outcome="crossed", key="k")
    state = apply(state, LabelArrived(key="k", wall_s=1.0))
    assert state.validation == ("k",)
    assert state.round is None
    trajectory = state.trajectories[0]
    assert (trajectory.status, trajectory.waiting_for) == (TrajectoryStatus.RUNNING, None)


def test_a_structure_with_a_label_is_not_asked_for_again() -> None:
    state = after(exploring(), outcome="crossed", key="k")
    state = learnt(launch(apply(state, LabelArrived(key="k", wall_s=1.0))))
    state = after(after(state), outcome="crossed", key="k", version=9, step=125)
    assert state.training == ("k",)
    assert not state.open_points
    trajectory = state.trajectories[0]
    assert (trajectory.waiting_for, trajectory.checkpoint) == (None, 9)
    assert not trajectory.over


def test_a_structure_without_a_label_is_not_asked_for_again() -> None:
    state = after(exploring(), outcome="crossed", key="k")
    state = launch(apply(state, LabelFailed(key="k", reason="SCF")))
    state = after(after(state), outcome="crossed", key="k", version=9)
    assert not state.open_points
    assert (state.trajectories[0].version, state.trajectories[0].rollbacks) == (0, 2)


def test_two_trajectories_may_wait_for_one_label() -> None:
    state = exploring()
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    results = tuple(
        TrajectoryResult(
            trajectory=i, outcome="crossed", version=1, step=25, since_crossing=0, key="k"
        )
        for i in action.trajectories[:2]
    )
    event = SegmentFinished(action_id=action.id, results=results, uncertainties=())
    state = launch(apply(state, event))
    assert state.open_points == ("k",)
    both = apply(state, LabelArrived(key="k", wall_s=1.0)).trajectories[:2]
    assert [t.status for t in both] == [TrajectoryStatus.TRAINING] * 2
    neither = apply(state, LabelFailed(key="k", reason="SCF")).trajectories[:2]
    assert [t.rollbacks for t in neither] == [1, 1]


# ---- when exploring is over -----------------------------------------------------------------


def over(state: CampaignState) -> CampaignState:
    """All trajectories but the first are finished; none is in a segment."""
    state = apply(state, Resumed(rules=state.rules))
    done = {"status": TrajectoryStatus.FINISHED}
    others = tuple(t.model_copy(update=done) for t in state.trajectories[1:])
    return launch(state.but(trajectories=(state.trajectories[0], *others)))


def test_what_the_last_trajectory_found_is_still_learnt() -> None:
    state = over(after(exploring(), outcome="crossed", key="k"))
    state = launch(apply(state, LabelArrived(key="k", wall_s=1.0)))
    done = state.trajectories[0].model_copy(update={"status": TrajectoryStatus.FINISHED})
    state = state.but(trajectories=(done, *state.trajectories[1:]))
    state = apply(state, Resumed(rules=state.rules))
    assert state.phase is Phase.ACTIVE, "a round is under way"
    state = learnt(launch(state))
    assert state.phase is Phase.CONVERGE
    assert state.stop_reason == "all trajectories are finished"


def test_given_up_trajectories_are_told_in_the_reason() -> None:
    state = over(exploring())
    for _ in range(MAX_ROLLBACKS):
        assert state.phase is Phase.ACTIVE
        state = after(state, outcome="exploded")
    assert "1 given up" in state.stop_reason


def test_an_accuracy_without_a_new_point_does_not_end_exploring() -> None:
    """The initial dataset may be as accurate as that; what it has not seen is not judged."""
    rules = make_rules(desired_acc=10.0, max_train_set_size=1)
    state = through_initial(rules).state
    assert state.phase is Phase.CONVERGE
    more = rules.model_copy(update={"max_train_set_size": 10_000})
    state = launch(apply(state, Resumed(rules=more)))
    assert state.phase is Phase.ACTIVE
    assert after(state).phase is Phase.ACTIVE


def test_accuracy_is_the_mean_of_the_last_validations() -> None:
    state = after(exploring(desired_acc=0.1), outcome="crossed", key="k")
    state = launch(apply(state, LabelArrived(key="k", wall_s=1.0)))
    trainings = [a for a in state.in_flight.values() if isinstance(a, Train)]
    for action, mae in zip(trainings, (0.05, 0.10, 0.14), strict=True):
        assert state.phase is Phase.ACTIVE
        state = apply(state, finished(action, 5.0, mae))
    assert state.mean_force_mae == pytest.approx(0.29 / 3)
    assert state.stop_reason == "validation force MAE 0.0967 eV/Å is below 0.1000 eV/Å"


def test_a_training_without_a_validation_keeps_the_errors_of_before() -> None:
    state = after(exploring(), outcome="crossed", key="k")
    state = launch(apply(state, LabelArrived(key="k", wall_s=1.0)))
    before = state.mean_force_mae
    action = next(a for a in state.in_flight.values() if isinstance(a, Train))
    assert apply(state, finished(action)).mean_force_mae == before


def test_a_crossing_after_the_stop_is_not_labelled() -> None:
    rules = make_rules(max_segments=1, valid_ratio=0.0, max_train_set_size=10_000)
    state = launch(through_initial(rules).state)
    state = after(state, outcome="crossed", key="k")
    small = rules.model_copy(update={"max_train_set_size": state.training_set_size + 1})
    state = apply(state.but(rules=small), LabelArrived(key="k", wall_s=1.0))
    assert state.phase is Phase.DRAIN
    flying = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    results = (
        TrajectoryResult(
            trajectory=flying.trajectories[0], outcome="crossed", version=2, step=50,
            since_crossing=0, key="late",
        ),
    )  # fmt: skip
    event = SegmentFinished(action_id=flying.id, results=results, uncertainties=())
    state = apply(state, event)
    assert "late" not in state.points
    assert state.phase is Phase.CONVERGE


def test_the_best_member_is_the_one_to_converge() -> None:
    state = exploring(max_train_set_size=10_000)
    small = make_rules(max_train_set_size=state.training_set_size + 1)
    state = after(state, outcome="crossed", key="k")
    members = {
        tag: m.model_copy(
            update={"errors": m.errors and m.errors.model_copy(update={"valid_loss": loss})}
        )
        for (tag, m), loss in zip(state.members.items(), (0.3, 0.2, 0.4), strict=True)
    }
    state = apply(state.but(rules=small, members=members), LabelArrived(key="k", wall_s=1.0))
    for action in tuple(state.in_flight.values()):
        state = apply(state, TaskLost(action_id=action.id, reason="gone", counted=False))
    assert [a.tag for a in next_actions(state) if isinstance(a, Converge)] == ["a-2"]


# ---- the threshold --------------------------------------------------------------------------


def test_a_frozen_threshold_follows_a_changed_c_x_after_a_restart() -> None:
    rules = make_rules(freeze_threshold_dataset=1)
    state = seen(exploring(freeze_threshold_dataset=1), *[1.0] * 12)
    assert state.window.frozen == 1.0
    changed = rules.model_copy(update={"c_x": 0.5})
    assert apply(state, Resumed(rules=changed)).window.frozen == 1.5


def test_a_frozen_threshold_moves_again_if_it_should_freeze_later() -> None:
    state = seen(exploring(freeze_threshold_dataset=1), *[1.0] * 12)
    state = apply(state, Resumed(rules=make_rules(freeze_threshold_dataset=10_000)))
    assert state.window.frozen is None


def test_a_frozen_threshold_stays_if_nothing_about_it_has_changed() -> None:
    state = seen(exploring(freeze_threshold_dataset=1), *[1.0] * 12)
    state = state.but(window=replace(state.window, frozen=0.7))
    again = make_rules(freeze_threshold_dataset=1, num_trajectories=9)
    assert apply(state, Resumed(rules=again)).window.frozen == 0.7


def seen(state: CampaignState, *values: float) -> CampaignState:
    return apply(state, SegmentFinished(action_id="none", results=(), uncertainties=values))


def test_uncertainties_enter_the_window_in_the_order_of_the_segment() -> None:
    state = seen(exploring(), 0.3, math.nan, 0.1)
    assert state.window.values == (0.3, 0.1)


def test_a_threshold_that_is_due_freezes_as_soon_as_there_is_one() -> None:
    state = exploring(freeze_threshold_dataset=1, c_x=0.5)
    assert seen(state, *[0.1] * 10).window.frozen is None
    frozen = seen(state, *[0.1] * 11)
    assert frozen.window.frozen == pytest.approx(0.15)


def test_a_threshold_freezes_with_the_label_that_makes_it_due_and_for_good() -> None:
    state = exploring(freeze_threshold_dataset=math.inf)
    due = state.rules.model_copy(
        update={"freeze_threshold_dataset": state.training_set_size + 1, "c_x": 0.0}
    )
    state = after(state.but(rules=due), outcome="crossed", key="k")
    state = launch(seen(state, *[0.2] * 11))
    level = state.window.threshold(0.0)
    assert state.window.frozen is None
    state = launch(apply(state, LabelArrived(key="k", wall_s=1.0)))
    assert state.window.frozen == level
    assert seen(state, *[9.0] * 50).window.frozen == level


# ---- the initial dataset --------------------------------------------------------------------


def sampled(state: CampaignState, geometry: int, *keys: str) -> CampaignState:
    step = state.sampling_step
    event = Sampled(
        action_id=f"sample:{step}:{geometry}", geometry=geometry, version=step, found=keys
    )
    return launch(apply(launch(state), event))


def labelled(state: CampaignState, *keys: str) -> CampaignState:
    for key in keys:
        state = apply(state, LabelArrived(key=key, wall_s=1.0))
    return launch(state)


def names(letter: str, count: int = 9) -> tuple[str, ...]:
    return tuple(f"{letter}{n}" for n in range(count))


def test_each_member_gets_its_own_share_of_every_geometry() -> None:
    state = apply(None, Started(rules=make_rules()))
    state = sampled(sampled(state, 0, *names("x")), 1, *names("y"))
    state = labelled(state, *names("x"), *names("y"))
    for member in state.members.values():
        share = [*member.training, *member.validation]
        assert Counter(key[0] for key in share) == {"x": 3, "y": 3}
        assert len(member.validation) == 1
    x, y = (
        {
            frozenset(key[1] for key in (*m.training, *m.validation) if key[0] == letter)
            for m in state.members.values()
        }
        for letter in "xy"
    )
    assert frozenset("036") not in x, "shuffled, not dealt in the order of the trajectory"
    assert x != y, "each geometry on its own"


def test_odd_points_go_to_another_member_each_step() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1, initial_accuracy=0.0)))
    for letter in "xyz":
        state = sampled(state, 0, *names(letter, 4))
        state = learnt(labelled(state, *names(letter, 4)))
    sizes = [len(m.training) + len(m.validation) for m in state.members.values()]
    assert sizes == [4, 4, 4]


def test_points_without_a_label_are_in_no_set() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    state = sampled(state, 0, *names("x"))
    state = apply(state, LabelFailed(key="x3", reason="SCF"))
    state = labelled(state, *(k for k in names("x") if k != "x3"))
    dealt = {k for m in state.members.values() for k in (*m.training, *m.validation)}
    assert dealt == {*names("x")} - {"x3"}
    assert state.round is not None


def test_a_structure_found_twice_is_one_point() -> None:
    state = apply(None, Started(rules=make_rules()))
    state = sampled(state, 0, "x", "x", "y")
    state = sampled(state, 1, "y", "z")
    assert state.open_points == ("x", "y", "z")
    assert {a.key for a in state.in_flight.values() if isinstance(a, Label)} == {"x", "y", "z"}


def test_no_sampling_while_the_members_train() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    state = labelled(sampled(state, 0, *names("x")), *names("x"))
    assert state.round is not None
    assert not any(isinstance(a, Sample) for a in state.in_flight.values())
    state = apply(state, Resumed(rules=state.rules))
    assert {type(a) for a in next_actions(state)} == {Train}


def ahead(**changes: object) -> CampaignState:
    """Members train on the first step of a campaign that samples beside its rounds."""
    rules = {"geometries": 1, "initial_accuracy": 0.0, "samples_ahead": True, **changes}
    state = apply(None, Started(rules=make_rules(**rules)))
    return labelled(sampled(state, 0, *names("x")), *names("x"))


def test_the_next_step_is_sampled_and_labelled_while_the_members_train() -> None:
    state = ahead()
    assert state.round is not None
    assert "sample:2:0" in state.in_flight
    state = labelled(sampled(state, 0, *names("y")), *names("y"))
    assert set(state.round.points) == {*names("x")}
    assert not any(k in m.training for m in state.members.values() for k in names("y"))
    state = learnt(state)
    assert state.round is not None and set(state.round.points) == {*names("y")}


def test_a_round_that_ends_before_the_labels_of_the_next_step_waits_for_them() -> None:
    state = sampled(ahead(), 0, *names("y"))
    state = learnt(state)
    assert state.round is None and not any(isinstance(a, Train) for a in state.in_flight.values())
    state = labelled(state, *names("y"))
    assert state.round is not None and set(state.round.points) == {*names("y")}


@pytest.mark.parametrize(
    "limit",
    [{"max_initial_epochs": 5}, {"max_initial_set_size": 9}, {"initial_accuracy": 0.4}],
    ids=str,
)
def test_no_step_is_begun_beside_a_round_that_may_be_the_last(limit: dict[str, float]) -> None:
    state = ahead(**limit)
    assert state.round is not None
    assert not any(isinstance(a, Sample) for a in state.in_flight.values())


def test_no_step_is_begun_beside_a_round_whose_errors_may_end_the_phase() -> None:
    state = learnt(ahead(initial_accuracy=0.4))  # its errors are 1 eV/Å
    state = labelled(sampled(state, 0, *names("y")), *names("y"))
    assert state.round is not None and "sample:3:0" not in state.in_flight


@pytest.mark.parametrize("samples_ahead", [True, False])
@pytest.mark.parametrize("order", [("y", "gone"), ("gone", "y"), ("mixed",)], ids=str)
def test_a_label_of_an_earlier_step_may_be_gone_and_come_back_at_any_time(
    samples_ahead: bool, order: tuple[str, ...]
) -> None:
    state = learnt(ahead(samples_ahead=samples_ahead))
    state = sampled(state, 0, *names("y"))
    gone = next(iter(state.members.values())).training[:2]
    state = apply(state, LabelsGone(keys=gone))
    awaited = {"y": [*names("y")], "gone": [*gone]}
    awaited["mixed"] = random.Random(5).sample([*names("y"), *gone], 11)
    state = labelled(state, *(key for one in order for key in awaited[one]))
    assert (state.restoring, state.open_points) == ((), ())
    assert state.round is not None and set(state.round.points) == {*names("y")}


def test_a_step_that_was_begun_is_learnt_before_the_phase_ends() -> None:
    state = ahead()
    state = state.but(rules=state.rules.but(max_initial_set_size=9.0))
    state = learnt(labelled(sampled(state, 0, *names("y")), *names("y")))
    assert state.round is not None and set(state.round.points) == {*names("y")}
    assert learnt(state).phase is Phase.INITIAL_PUBLISH


@pytest.mark.parametrize("goal", [0.0, 0.1, 0.4, 2.0])
def test_an_accuracy_ends_the_phase_at_the_same_round_with_and_without_steps_ahead(
    goal: float,
) -> None:
    def end(samples_ahead: bool) -> tuple[int, int, str]:
        state, errors = ahead(samples_ahead=samples_ahead, initial_accuracy=goal), [1.0, 0.3, 0.05]
        state = state.but(rules=state.rules.but(max_initial_set_size=36.0))
        for letter in "yzuvw":
            if state.round is not None:
                state = learnt(state, errors.pop(0) if len(errors) > 1 else errors[0])
            if state.phase is not Phase.INITIAL:
                break
            state = labelled(sampled(state, 0, *names(letter)), *names(letter))
        return state.labels, state.rounds, state.stop_reason

    assert end(True) == end(False)


@pytest.mark.parametrize("seed", range(3))
def test_members_learn_the_same_points_whether_or_not_steps_are_sampled_ahead(seed: int) -> None:
    def rounds(samples_ahead: bool) -> list[object]:
        rules = make_rules(
            geometries=1, initial_accuracy=0.0, max_initial_set_size=36, samples_ahead=samples_ahead
        )
        held: list[object] = []

        def watch(state: CampaignState, event: Event) -> None:
            if isinstance(event, Launched) and isinstance(event.action, Train):
                sets = {t: (m.training, m.validation) for t, m in state.members.items()}
                if not held or held[-1] != sets:
                    held.append(sets)

        shell = VirtualShell(rules, World(), np.random.default_rng(seed), watch)
        while shell.state.phase is Phase.INITIAL:
            shell.advance()
        return held

    one, other = rounds(True), rounds(False)
    assert one == other and len(one) == 4


def test_a_member_without_a_point_of_both_kinds_waits_for_more() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    state = labelled(sampled(state, 0, *names("x", 5)), *names("x", 5))
    assert state.round is None
    assert state.sampling_step == 2


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_initial_epochs": 7}, "max_initial_epochs: 7 epochs"),
        ({"max_initial_set_size": 18}, "max_initial_set_size: 18 points"),
        ({"initial_accuracy": 1.0}, "validation force MAE 1.0000 eV/Å reached 1.0000 eV/Å"),
    ],
)
def test_the_initial_dataset_ends_at_its_limits(limit: dict[str, float], reason: str) -> None:
    state = apply(None, Started(rules=make_rules(geometries=1, initial_accuracy=0.0)))
    state = state.but(rules=state.rules.model_copy(update=limit))
    for letter in "xy":
        if state.phase is Phase.INITIAL:
            state = sampled(state, 0, *names(letter))
            state = learnt(labelled(state, *names(letter)))
    assert state.phase is Phase.INITIAL_PUBLISH
    assert state.stop_reason == reason


def test_barren_steps_are_counted_in_a_row_and_forgotten_at_a_restart() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1, initial_accuracy=0.0)))
    for _ in range(MAX_BARREN_STEPS - 1):
        state = sampled(state, 0)
    state = learnt(labelled(sampled(state, 0, *names("x")), *names("x")))
    assert state.barren_steps == 0
    for _ in range(MAX_BARREN_STEPS):
        assert state.phase is Phase.INITIAL
        state = sampled(state, 0)
    assert state.phase is Phase.FAILED
    state = apply(state, Resumed(rules=state.rules))
    assert sampled(state, 0).phase is Phase.INITIAL


# ---- losses ---------------------------------------------------------------------------------


def test_segments_are_counted_together_and_forgiven_by_one_that_comes_back() -> None:
    state = exploring()
    for n in range(2 * TASK.died - 2):
        (action,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
        state = launch(apply(state, TaskLost(action_id=action.id, reason="killed")))
        if n == TASK.died - 2:
            state = after(state)
    assert state.phase is Phase.ACTIVE
    (action,) = (a for a in state.in_flight.values() if isinstance(a, Propagate))
    state = apply(state, TaskLost(action_id=action.id, reason="killed"))
    assert (state.phase, state.failed_in) == (Phase.FAILED, Phase.ACTIVE)
    assert all(t.status is TrajectoryStatus.RUNNING for t in state.trajectories)


def test_losses_that_do_not_count_are_not_counted() -> None:
    state = launch(apply(None, Started(rules=make_rules())))
    for _ in range(3 * TASK.died):
        event = TaskLost(action_id="sample:1:0", reason="stopped", counted=False)
        state = launch(apply(state, event))
    assert state.phase is Phase.INITIAL


def test_a_restart_forgives_losses() -> None:
    state = launch(apply(None, Started(rules=make_rules())))
    for _ in range(TASK.died - 1):
        state = launch(apply(state, TaskLost(action_id="sample:1:0", reason="killed")))
    state = launch(apply(state, Resumed(rules=state.rules)))
    assert apply(state, TaskLost(action_id="sample:1:0", reason="killed")).phase is Phase.INITIAL


def test_a_label_that_was_given_up_and_arrives_stays_given_up() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    state = sampled(state, 0, "k", "l")
    failed = apply(state, LabelFailed(key="k", reason="lost"))
    assert apply(failed, LabelArrived(key="k", wall_s=1.0)).points == failed.points
    twice = apply(failed, LabelFailed(key="k", reason="again"))
    assert (twice.failed_labels, twice.points["k"].reason) == (1, "lost")


def test_the_first_failure_is_the_one_that_is_told() -> None:
    state = launch(apply(None, Started(rules=make_rules())))
    state = apply(state, TaskLost(action_id="sample:1:0", reason="first", final=True))
    state = apply(state, TaskLost(action_id="sample:1:1", reason="second", final=True))
    assert (state.stop_reason, state.failed_in) == ("first", Phase.INITIAL)


def test_segments_use_no_more_slots_than_there_are() -> None:
    state = exploring()
    assert not any(isinstance(a, Propagate) for a in next_actions(state))
    free = state.but(rules=state.rules.model_copy(update={"max_segments": 3}))
    freed = apply(free, segment(free))
    batches = [a.trajectories for a in next_actions(freed) if isinstance(a, Propagate)]
    assert batches == [(0, 3), (1, 4), (2, 5)]
    one = apply(freed, Launched(action=next_actions(freed)[0]))
    rest = [a.trajectories for a in next_actions(one) if isinstance(a, Propagate)]
    assert rest == [(1, 4), (2, 5)]


def test_the_memory_of_label_times_has_an_end() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    state = sampled(state, 0, *names("x", 150))
    for key in names("x", 149):
        state = apply(state, LabelArrived(key=key, wall_s=7.0))
    assert state.label_seconds == (7.0,) * 101


def losing(state: CampaignState, key: str) -> CampaignState:
    for _ in range(LABEL.died):
        state = apply(launch(state), TaskLost(action_id=f"label:{key}", reason="no launcher"))
    return state


def test_labels_that_are_given_up_in_a_row_stop_a_campaign_and_none_of_the_last_is_lost() -> None:
    state = sampled(apply(None, Started(rules=make_rules(geometries=1))), 0, *"abcdef")
    for key in "abcdef"[: MAX_GIVEN_UP_IN_A_ROW - 1]:
        state = losing(state, key)
        assert state.phase is Phase.INITIAL
    last = "abcdef"[MAX_GIVEN_UP_IN_A_ROW - 1]
    state = losing(state, last)
    assert state.phase is Phase.FAILED
    assert "3 labels in a row could not be computed; the last was lost 4 times" in state.stop_reason
    assert "no launcher" in state.stop_reason
    for key in "abcdef":
        assert state.points[key].status is PointStatus.REQUESTED
    assert state.failed_labels == 0
    again = apply(state, Resumed(rules=state.rules))
    assert {Label(key=key) for key in "abcdef"} <= set(next_actions(again))


def test_a_label_that_arrives_shows_that_the_reference_can_be_run() -> None:
    state = sampled(apply(None, Started(rules=make_rules(geometries=1))), 0, *"abcdef")
    for key in "ab":
        state = losing(state, key)
    state = apply(state, LabelArrived(key="f", wall_s=1.0))
    for key in "cd":
        state = losing(state, key)
    assert state.phase is Phase.INITIAL


def test_points_that_the_gate_refuses_are_counted() -> None:
    state = apply(None, Started(rules=make_rules(geometries=1)))
    found = Sampled(action_id="sample:1:0", geometry=0, version=1, found=tuple("abc"), refused=2)
    state = apply(launch(state), found)
    state = apply(state, LabelFailed(key="a", reason="a force of 99 eV/Å", refused=True))
    state = apply(state, LabelFailed(key="b", reason="SCF did not converge"))
    assert (state.refused, state.failed_labels) == (3, 2)


def test_the_cost_of_labels_adds_up() -> None:
    state = sampled(apply(None, Started(rules=make_rules(geometries=1))), 0, *"abc")
    for key in "ab":
        state = apply(state, LabelArrived(key=key, wall_s=1.0, core_hours=0.5))
    assert state.core_hours == 1.0


def with_gone() -> CampaignState:
    """A campaign in active learning that finds two of its labels gone when it is taken up."""
    state = exploring()
    for action in tuple(state.in_flight):
        state = apply(state, TaskLost(action_id=action, reason="restart", counted=False))
    keys = state.labelled[:2]
    return apply(apply(state, Resumed(rules=state.rules)), LabelsGone(keys=tuple(keys)))


def test_labels_that_are_gone_are_computed_before_anything_else() -> None:
    state = with_gone()
    keys = state.restoring
    assert next_actions(state) == [Label(key=key) for key in keys]
    state = apply(launch(state), LabelArrived(key=keys[0], wall_s=1.0))
    assert next_actions(state) == []
    state = apply(state, LabelArrived(key=keys[1], wall_s=1.0))
    assert not all(isinstance(action, Label) for action in next_actions(state))


def test_a_label_that_is_computed_again_is_in_its_sets_once() -> None:
    state = with_gone()
    before = (state.members, state.training, state.validation, state.labels)
    for key in state.restoring:
        state = apply(state, LabelArrived(key=key, wall_s=1.0))
    assert (state.members, state.training, state.validation, state.labels) == before
    assert (state.restoring, state.open_points) == ((), ())


@pytest.mark.parametrize("pays_again", [True, False])
def test_what_a_label_takes_that_is_computed_again_is_paid(pays_again: bool) -> None:
    state = with_gone()
    state = state.but(rules=state.rules.but(pays_again=pays_again))
    key, before = state.restoring[0], state.core_hours
    ledger = Ledger(complain=lambda kind, what: None)
    ledger.restore(json.loads(state.model_dump_json()))
    event = LabelArrived(key=key, wall_s=1.0, core_hours=2.5)
    state = apply(state, event)
    ledger.take(event.model_dump(mode="json"))
    assert state.core_hours - before == (2.5 if pays_again else 0.0)
    assert (ledger.core_hours, ledger.labels) == (state.core_hours, state.labels)
    assert max(state.costliest, default=0.0) == max(ledger.costliest.values(), default=0.0)


@pytest.mark.parametrize(("computed_at", "paid"), [(7.0, 0.0), (8.0, 2.5), (0.0, 2.5)])
def test_a_label_that_was_only_out_of_sight_is_paid_once(computed_at: float, paid: float) -> None:
    state = with_gone()
    state = state.but(rules=state.rules.but(pays_again=True))
    key, before = state.restoring[0], state.core_hours
    point = state.points[key].but(computed_at=7.0)
    state = state.but(points={**state.points, key: point})
    ledger = Ledger(complain=lambda kind, what: None)
    ledger.restore(json.loads(state.model_dump_json()))
    event = LabelArrived(key=key, wall_s=1.0, core_hours=2.5, computed_at=computed_at)
    state = apply(state, event)
    ledger.take(event.model_dump(mode="json"))
    assert state.core_hours - before == paid == ledger.core_hours - before
    assert state.points[key].computed_at == computed_at == ledger.points[key].computed_at


def test_a_label_that_several_tasks_have_missed_is_computed_again_once() -> None:
    state = with_gone()
    again = apply(state, LabelsGone(keys=state.restoring))
    assert (again.restoring, again.open_points) == (state.restoring, state.open_points)


def test_a_label_that_cannot_be_computed_again_stops_the_campaign() -> None:
    state = with_gone()
    failed = apply(launch(state), LabelFailed(key=state.restoring[0], reason="SCF"))
    assert failed.phase is Phase.FAILED
    assert "is gone, and was not computed: SCF" in failed.stop_reason
    again = apply(failed, Resumed(rules=failed.rules))
    assert set(next_actions(again)) == {Label(key=key) for key in state.restoring}


@pytest.mark.parametrize("losses", [{"label:a": 2, "label:a out-of-time": 1, "propagate": 3}, {}])
def test_a_state_with_losses_of_an_earlier_release_is_taken(losses: dict[str, int]) -> None:
    state = json.loads(exploring().model_dump_json())
    taken = CampaignState.model_validate({**state, "losses": losses})
    assert tries_of(taken, "label:a") == (Tries(2, 0, 1) if losses else Tries())
    assert tries_of(taken, "propagate:7").died == (3 if losses else 0)
    assert CampaignState.model_validate_json(taken.model_dump_json()) == taken


def test_a_copy_of_a_campaign_has_a_name_of_its_own() -> None:
    state = apply(None, Started(rules=make_rules(), campaign="a"))
    state = apply(state, Resumed(rules=state.rules, campaign="b", copied=True))
    state = apply(state, Resumed(rules=state.rules, campaign="c"))
    assert state.campaign == "b"


@pytest.mark.parametrize(("begun_as", "name"), [("a", "a"), ("", "b")])
def test_a_campaign_has_one_name_for_life_and_an_old_one_is_given_it(
    begun_as: str, name: str
) -> None:
    state = apply(None, Started(rules=make_rules(), campaign=begun_as))
    for other in ("b", "c"):
        state = apply(state, Resumed(rules=state.rules, campaign=other))
    assert state.campaign == name


# ---- sampling that hands over what it has ----------------------------------------------------


def sampling(**changes: object) -> CampaignState:
    """The first sampling MD of a campaign with one geometry is launched."""
    state = CampaignState.begin(make_rules(geometries=1, points_per_step=2, **changes))
    (action,) = next_actions(state)
    return apply(state, Launched(action=action))


def part_of(
    state: CampaignState, *found: str, more: bool = True, refused: int = 0
) -> CampaignState:
    """The sampling MD comes back with some structures; what follows is launched."""
    (action,) = (a for a in state.in_flight.values() if isinstance(a, Sample))
    version = state.samplers[0].version + 1
    event = Sampled(
        action_id=action.id, geometry=0, version=version, found=found, more=more, refused=refused
    )
    state = apply(state, event)
    for action in next_actions(state):
        state = apply(state, Launched(action=action))
    return state


def test_labels_begin_while_sampling_goes_on() -> None:
    state = part_of(sampling(), "k0", "k1", refused=1)
    flying = list(state.in_flight.values())
    assert {a.key for a in flying if isinstance(a, Label)} == {"k0", "k1"}
    (rest,) = (a for a in flying if isinstance(a, Sample))
    assert (rest.points, rest.part, rest.id) == (3, 1, "sample:1:0:1")


def test_training_waits_for_the_rest_of_the_step() -> None:
    state = part_of(sampling(), "k0", "k1")
    for key in ("k0", "k1"):
        state = apply(state, LabelArrived(key=key, wall_s=1.0))
    assert state.round is None
    state = part_of(state, "k2", "k3", "k4", "k5", more=False)
    for key in ("k2", "k3", "k4", "k5"):
        state = apply(state, LabelArrived(key=key, wall_s=1.0))
    assert state.round is not None
    assert set(state.round.points) == {f"k{i}" for i in range(6)}
    assert state.samplers[0].found == state.samplers[0].parts == 0


def test_who_has_what_does_not_depend_on_the_parts_in_which_it_was_found() -> None:
    keys = [f"k{i}" for i in range(6)]
    sets = []
    for cut in (0, 2, 5):
        state = part_of(sampling(), *keys[:cut]) if cut else sampling()
        state = part_of(state, *keys[cut:], more=False)
        for key in reversed(keys):
            state = apply(state, LabelArrived(key=key, wall_s=1.0))
        sets.append([(m.training, m.validation) for m in state.members.values()])
    assert sets[0] == sets[1] == sets[2]


def test_fewer_points_that_are_asked_for_meanwhile_end_the_step() -> None:
    state = part_of(sampling(), "k0", "k1", "k2", "k3")
    state = apply(state, Resumed(rules=make_rules(geometries=1, points_per_step=1)))
    (rest,) = (a for a in next_actions(state) if isinstance(a, Sample))
    assert rest.points == 1
