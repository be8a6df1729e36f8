"""How the members of a round are dealt to workers, and how long their rounds take then."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimspax_core.campaign import rounds
from aimspax_core.campaign.actions import Propagate, Train, task_of, tasks_of
from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    Launched,
    ParametersSet,
    SegmentFinished,
    TaskLost,
    TrainingDiverged,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.exploration import steps_left
from aimspax_core.campaign.rounds import epochs_for
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.campaign.turns import ALONE, BESIDE_MD, Least, dealt, epoch_seconds
from aimspax_core.labels.tries import TASK
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

TAGS = ("a", "b", "c", "d")


def makespan(
    members: int, workers: int, epochs: int, epoch_s: float, around_s: float = 0.0
) -> float:
    """How long a round takes in the virtual world (s), once the pace is known."""
    rules = make_rules(
        tags=TAGS[:members], max_segments=workers, initial_epochs=epochs, initial_accuracy=0.0,
        geometries=1,
    )  # fmt: skip
    world = World(ml_slots=workers, epoch_s=epoch_s, steady=True, around_s=around_s)
    shell = VirtualShell(rules, world, np.random.default_rng(0))
    # An epoch takes as long however large the set is: the pace of the round before would not fit.
    while shell.state.round is None:
        shell.advance()
    size = max(len(m.training) for m in shell.state.members.values())
    shell.state = shell.state.but(paces=(epoch_s / size,))
    began = shell.clock
    while shell.state.round is not None:
        shell.advance()
    return shell.clock - began


@pytest.mark.parametrize(
    ("workers", "members", "turns"),
    [(1, 3, 3), (2, 3, 1.5), (3, 3, 1), (4, 3, 1), (1, 4, 4), (2, 4, 2), (3, 4, 4 / 3), (4, 4, 1)],
)
def test_a_round_takes_no_more_turns_than_its_work_needs(
    workers: int, members: int, turns: float
) -> None:
    epochs = 12
    assert makespan(members, workers, epochs, 1.0) == pytest.approx(turns * epochs)


def test_what_is_cut_off_is_not_too_short() -> None:
    assert makespan(3, 2, 2, 0.9 * ALONE.piece) == pytest.approx(2 * 2 * 0.9 * ALONE.piece)


@pytest.mark.parametrize("least", [BESIDE_MD, ALONE])
def test_a_round_that_is_too_short_for_tasks_of_its_members_is_one_task(least: Least) -> None:
    (task,) = dealt({"a": 2, "b": 2, "c": 2}, least.task / 4, 2, least)
    assert [piece.tag for piece in task] == ["a", "b", "c"]


def test_members_have_tasks_of_their_own_until_it_is_known_how_long_they_take() -> None:
    assert [len(task) for task in dealt({"a": 2, "b": 2, "c": 2}, None, 2)] == [1, 1, 1]
    assert epoch_seconds((), 10) is None


def test_how_long_an_epoch_takes_grows_with_the_set_and_forgets_one_odd_task() -> None:
    assert epoch_seconds((0.1, 5.0, 0.1), 20) == pytest.approx(2.0)


@settings(max_examples=300, deadline=None)
@given(
    left=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=1),
    epoch_s=st.floats(0.01, 30),
    workers=st.integers(1, 8),
    least=st.sampled_from([BESIDE_MD, ALONE]),
)
def test_every_member_begins_once_and_no_task_is_short_without_need(
    left: dict[str, int], epoch_s: float, workers: int, least: Least
) -> None:
    tasks = dealt(left, epoch_s, workers, least)
    pieces = [piece for task in tasks for piece in task]
    assert sorted(piece.tag for piece in pieces) == sorted(left)
    assert all(piece.epochs is None or 0 < piece.epochs < left[piece.tag] for piece in pieces)
    seconds = [sum(left[p.tag] if p.epochs is None else p.epochs for p in t) for t in tasks]
    if len(tasks) > 1:
        assert min(seconds) * epoch_s >= min(least.piece, min(left.values()) * epoch_s) - 1e-9


@settings(max_examples=200, deadline=None)
@given(
    members=st.integers(1, 4),
    workers=st.integers(1, 6),
    epochs=st.integers(1, 20),
    epoch_s=st.floats(0.05, 5),
)
def test_a_round_is_never_slower_than_one_task_for_each_member_but_to_spare_short_tasks(
    members: int, workers: int, epochs: int, epoch_s: float
) -> None:
    member_s = epochs * epoch_s
    alone = math.ceil(members / workers) * member_s
    short = 2 * ALONE.task + member_s if member_s < ALONE.task else 0.0
    assert makespan(members, workers, epochs, epoch_s) <= max(alone, short) + 1e-6


def first_tasks(phase: Phase, member_s: float) -> int:
    """How many tasks a round of three members begins with on two workers."""
    rules = make_rules(tags=TAGS[:3], max_segments=2, initial_epochs=2, epochs_per_round=2)
    shell = VirtualShell(rules, World(), np.random.default_rng(0))
    while shell.state.phase is not phase or shell.state.round is None:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    state = shell.state
    tags = state.members.values()
    size = max(len(rounds.replayed(state, member.tag)[0]) for member in tags)
    state = state.but(
        in_flight={}, paces=(member_s / 2 / size,),
        members={m.tag: m.but(round_epochs=0) for m in tags},
        round=shell.state.round.but(epochs=2),
    )  # fmt: skip
    return len(tasks_of(rounds.actions(state)))


def test_short_trainings_share_a_task_only_where_md_could_have_the_other_workers() -> None:
    assert first_tasks(Phase.ACTIVE, 0.5) == 1
    assert first_tasks(Phase.INITIAL, 0.5) == 3


# ---- several trainings in one task ----------------------------------------------------------


def short_round() -> CampaignState:
    """A round of three members whose trainings are one task, launched."""
    shell = VirtualShell(make_rules(), World(), np.random.default_rng(1))
    while shell.state.round is None:
        shell.advance()
    state = shell.state.but(paces=(1e-3,))
    for action in next_actions(state):
        state = apply(state, Launched(action=action))
    return state


def trainings(state: CampaignState) -> list[Train]:
    return [a for a in state.in_flight.values() if isinstance(a, Train)]


def finished(action: Train) -> TrainingFinished:
    return TrainingFinished(
        action_id=action.id, tag=action.tag, checkpoint=action.checkpoint, epochs=action.epochs,
        errors=(),
    )  # fmt: skip


def test_trainings_of_one_task_come_back_each_by_itself() -> None:
    state = short_round()
    first, second, third = trainings(state)
    assert {task_of(a) for a in (first, second, third)} == {first.id}
    state = apply(state, finished(first))
    state = apply(state, TrainingDiverged(action_id=second.id, tag=second.tag, reason="NaN"))
    state = apply(state, TaskLost(action_id=third.id, reason="died"))
    assert state.members[first.tag].checkpoint == first.checkpoint
    again = [a for a in next_actions(state) if isinstance(a, Train)]
    assert [(a.tag, a.again) for a in again] == [(second.tag, 1), (third.tag, 0)]


def test_a_member_that_kills_its_workers_is_the_one_that_is_blamed_and_the_others_train() -> None:
    state = short_round()
    bad = trainings(state)[-1]
    lost: Counter[str] = Counter()
    while state.phase is Phase.INITIAL:
        for task in tasks_of(trainings(state)):
            for action in (a for a in task if isinstance(a, Train)):
                if bad.id in {a.id for a in task}:
                    lost[action.tag] += 1
                    state = apply(state, TaskLost(action_id=action.id, reason="killed"))
                else:
                    state = apply(state, finished(action))
        for action in next_actions(state):
            state = apply(state, Launched(action=action))
    assert state.phase is Phase.FAILED
    assert bad.id in state.stop_reason
    assert lost == {bad.tag: TASK.died} | {tag: 1 for tag in lost if tag != bad.tag}
    done = [m.tag for m in state.members.values() if m.round_epochs]
    assert sorted((*done, bad.tag)) == sorted(state.members)


def test_a_pace_is_learnt_from_what_tasks_took() -> None:
    state = short_round().but(paces=())
    action = trainings(state)[0]
    size = len(state.dataset(action.tag)[0])
    state = apply(state, finished(action).but(task_seconds=10.0))
    assert state.paces == pytest.approx((10.0 / action.epochs / size,))


# ---- what MD gets ---------------------------------------------------------------------------


def test_md_takes_only_the_workers_that_training_leaves() -> None:
    most: list[int] = []

    def watch(state: CampaignState, event: Event) -> None:
        flying = (a for a in state.in_flight.values() if isinstance(a, Propagate | Train))
        tasks = Counter(type(a).__name__ for a in {task_of(a): a for a in flying}.values())
        if isinstance(event, Launched) and isinstance(event.action, Propagate):
            most.append(sum(tasks.values()))

    shell = VirtualShell(make_rules(), World(ml_slots=2), np.random.default_rng(3), watch)
    assert shell.run().phase is Phase.FINISHED
    assert most and max(most) <= 2


def waiting_for_a_round(bound: float) -> CampaignState:
    """A round is under way, whose trainings are launched, and two trajectories run."""
    shell = VirtualShell(
        make_rules(steps_while_training=bound, max_segments=4, valid_ratio=0.0),
        World(ml_slots=4, crosses=0.1), np.random.default_rng(5),
    )  # fmt: skip
    while shell.state.phase is not Phase.ACTIVE or shell.state.round is None:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    state = shell.state
    for action in [a for a in state.in_flight.values() if isinstance(a, Propagate)]:
        state = apply(state, TaskLost(action_id=action.id, reason="", counted=False))
    for action in rounds.actions(state):
        state = apply(state, Launched(action=action))
    return state


def went_on(state: CampaignState, steps: int) -> CampaignState:
    """All trajectories that may run go on by some steps."""
    for action in [a for a in next_actions(state) if isinstance(a, Propagate)]:
        state = apply(state, Launched(action=action))
        results = tuple(
            TrajectoryResult(
                trajectory=i, outcome="running", version=action.number,
                step=state.trajectories[i].step + steps, since_crossing=steps,
            )
            for i in action.trajectories
        )  # fmt: skip
        event = SegmentFinished(action_id=action.id, results=results, uncertainties=())
        state = apply(state, event)
    return state


def runs(state: CampaignState) -> bool:
    return any(isinstance(action, Propagate) for action in next_actions(state))


def test_trajectories_go_on_while_a_round_is_under_way_as_far_as_is_wanted() -> None:
    state = waiting_for_a_round(bound=50)
    segments = [a for a in next_actions(state) if isinstance(a, Propagate)]
    running = [index for segment in segments for index in segment.trajectories]
    assert {steps_left(state, index) for index in running} == {50}
    state = went_on(state, 25)
    assert {steps_left(state, index) for index in running} == {25}
    assert runs(state)
    assert not runs(went_on(state, 25))
    assert runs(went_on(went_on(waiting_for_a_round(bound=math.inf), 500), 500))


def test_trajectories_run_on_with_the_new_ensemble() -> None:
    state = went_on(waiting_for_a_round(bound=1), 25)
    assert not runs(state)
    for action in trainings(state):
        state = apply(state, finished(action))
    assert state.round is None
    assert runs(state)
    assert steps_left(state, 0) == math.inf


def test_a_bound_that_is_set_during_a_round_counts_from_where_the_round_began() -> None:
    state = went_on(waiting_for_a_round(bound=math.inf), 30)
    state = apply(state, ParametersSet(rules=state.rules.but(steps_while_training=50), values=()))
    assert runs(state)
    assert not runs(went_on(state, 20))


def test_a_bound_holds_in_a_round_that_an_earlier_release_began() -> None:
    state = waiting_for_a_round(bound=50)
    assert state.round is not None
    state = went_on(state.but(round=state.round.but(steps=())), 25)
    assert runs(state)
    assert not runs(went_on(state, 25))


def test_trajectories_that_are_added_during_a_round_are_bounded_too() -> None:
    state = waiting_for_a_round(bound=50)
    more = state.rules.but(num_trajectories=len(state.trajectories) + 1)
    state = went_on(apply(state, ParametersSet(rules=more, values=())), 25)
    new = len(state.trajectories) - 1
    assert (state.trajectories[new].step, steps_left(state, new)) == (25, 25)
    assert not runs(went_on(state, 25))


@settings(max_examples=30, deadline=None)
@given(bound=st.sampled_from([1, 30, 200]), seed=st.integers(0, 1000))
def test_a_campaign_whose_md_waits_for_its_rounds_comes_to_its_end(bound: int, seed: int) -> None:
    rules = make_rules(steps_while_training=bound, max_segments=3)
    world = World(ml_slots=3, explodes=0.1)
    assert VirtualShell(rules, world, np.random.default_rng(seed)).run().finished


# ---- epochs for each point ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "points", "epochs"),
    [(1, 5, 2), (8, 1, 2), (8, 5, 10), (8, 12, 16), (math.inf, 12, 24)],
)
def test_a_round_has_its_epochs_for_each_point_up_to_a_bound(
    counted: float, points: int, epochs: int
) -> None:
    state = CampaignState.begin(make_rules(epochs_per_round=2, points_counted=counted))
    assert epochs_for(state, points) == epochs
