"""Rules of active learning: trajectories run, cross the threshold, wait for labels and training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aimspax_core.campaign import (
    budget,
    candidates,
    convergence,
    initial,
    rounds,
    thresholds,
    trajectories,
)
from aimspax_core.campaign.actions import Action, Assess, Propagate, Train, task_of
from aimspax_core.campaign.events import Look, SegmentFinished, TrajectoryResult
from aimspax_core.campaign.state import (
    CampaignState,
    Phase,
    Point,
    PointStatus,
    TrajectoryStatus,
)
from aimspax_core.campaign.stopping import ending

SEGMENT_SHARE = 0.01
SEGMENT_MIN_S, SEGMENT_MAX_S = 2.0, 30.0


def begin(state: CampaignState) -> CampaignState:
    """Start the trajectories."""
    state = initial.left(convergence.forgotten(state))
    state = state.but(phase=Phase.ACTIVE, stop_rule="", stop_reason="")
    return settle(trajectories.complete(state))


def segments(state: CampaignState, training: Sequence[Action] = ()) -> list[Action]:
    """Return batches of the trajectories that can run, one for each worker that is free.

    What would only wait for a worker is not in a batch yet: by the time that one is free, more
    trajectories may run, and there may be a new ensemble.

    Args:
        state: The campaign.
        training: What is to be trained now, which comes first.
    """
    begun = (*training, *state.in_flight.values())
    at_work = [a for a in begun if isinstance(a, Propagate | Train | Assess)]
    free = state.rules.max_segments - len({task_of(action) for action in at_work})
    if free <= 0 or not all(state.ensemble):  # one is trained anew
        return []
    running = (t.index for t in state.trajectories if t.status is TrajectoryStatus.RUNNING)
    ready = [index for index in running if steps_left(state, index) > 0]
    slots = min(free, len(ready))
    return [
        Propagate(
            number=state.segments + 1 + i,
            trajectories=tuple(ready[i::slots]),
            checkpoints=state.ensemble,
        )
        for i in range(slots)
    ]


def steps_left(state: CampaignState, index: int) -> float:
    """Return how many more MD steps a trajectory may make with the present ensemble.

    While a round is under way, which replaces it, that may be bounded: by the step at which the
    trajectory was when the round began, or has its first segment in it.
    """
    step, now = state.trajectories[index].step, state.round
    if now is None:
        return math.inf
    began = now.steps[index] if index < len(now.steps) else step
    return began + state.rules.steps_while_training - step


def segment_budget_s(state: CampaignState) -> float:
    """Return the time budget of a segment: 1 % of the median label time, 2 s to 30 s."""
    times = sorted(state.label_seconds)
    median = times[len(times) // 2] if times else 0.0
    return min(SEGMENT_MAX_S, max(SEGMENT_MIN_S, SEGMENT_SHARE * median))


def enter_segment(state: CampaignState, action: Propagate) -> CampaignState:
    """Mark the trajectories of a segment that was launched."""
    state = _counting(state.but(segments=max(state.segments, action.number)))
    return trajectories.changed(state, *action.trajectories, status=TrajectoryStatus.IN_SEGMENT)


def _counting(state: CampaignState) -> CampaignState:
    """Let the round know of each trajectory at which step it was.

    It does not of those that were added since it began, nor does one of an earlier release.
    """
    now = state.round
    if now is None or len(now.steps) >= len(state.trajectories):
        return state
    new = (t.step for t in state.trajectories[len(now.steps) :])
    return state.but(round=now.but(steps=(*now.steps, *new)))


def leave_segment(state: CampaignState, action: Propagate) -> CampaignState:
    """Let the trajectories of a segment that was lost run again from where they were."""
    left = (
        index
        for index in action.trajectories
        if state.trajectories[index].status is TrajectoryStatus.IN_SEGMENT
    )
    return trajectories.changed(state, *left, status=TrajectoryStatus.RUNNING)


def segment_finished(
    state: CampaignState, event: SegmentFinished, judged_in: int = 0
) -> CampaignState:
    """Move every trajectory of a segment on, and let thresholds see what was unsure.

    Args:
        state: The campaign.
        event: The segment.
        judged_in: Number of its ensemble.
    """
    state = thresholds.seen(state, event)
    last = dict(zip(event.checked, event.uncertainties, strict=False))
    for result in event.results:
        # What was taken though it was not unsure is not held against others.
        unsure = last.get(result.trajectory) if result.reason != "limit" else None
        state = _moved(state, result, unsure, judged_in)
    for look in event.looks:
        state = _looked_at(state, look)
    return settle(state)


def _looked_at(state: CampaignState, look: Look) -> CampaignState:
    """Ask for a label that is for analysis only, unless the structure is to be labelled anyway."""
    if look.key in state.points or state.phase is not Phase.ACTIVE:
        return state
    geometry = state.trajectories[look.trajectory].geometry
    point = Point(key=look.key, geometry=geometry, trajectory=look.trajectory, analysis=True)
    return state.but(
        points={**state.points, look.key: point}, open_points=(*state.open_points, look.key)
    )


def settle(state: CampaignState, fresh_errors: bool = False) -> CampaignState:
    """Start a round if points wait for one, and stop if a stopping rule holds.

    In a campaign that is stopping already, go on to its end if nothing runs any more.
    """
    if state.phase is Phase.DRAIN:
        return drained(state)
    return _stop_if_due(_train(state), fresh_errors)


def _moved(
    state: CampaignState, result: TrajectoryResult, unsure: float | None, judged_in: int
) -> CampaignState:
    index = result.trajectory
    if result.outcome == "exploded":
        return trajectories.roll_back(state, index, result.reason)
    state = trajectories.changed(
        state,
        index,
        status=TrajectoryStatus.RUNNING,
        version=result.version,
        step=result.step,
        since_crossing=result.since_crossing,
        origin=None,
    )
    if result.outcome == "finished":
        return trajectories.changed(state, index, status=TrajectoryStatus.FINISHED)
    if result.outcome == "crossed" and result.key is not None and state.phase is Phase.ACTIVE:
        return _crossed(state, result.key, result, unsure, judged_in)
    return state


def _crossed(
    state: CampaignState,
    key: str,
    result: TrajectoryResult,
    unsure: float | None,
    judged_in: int,
) -> CampaignState:
    """Ask for the label of a structure, unless it has been asked for before."""
    index = result.trajectory
    state = trajectories.changed(state, index, status=TrajectoryStatus.WAITING, waiting_for=key)
    known = state.points.get(key)
    if known is None:
        geometry = state.trajectories[index].geometry
        point = Point(key=key, geometry=geometry, trajectory=index)
        if candidates.chooses(state):
            place = {"distance": result.distance, "sketch": result.sketch, "unit": result.unit}
            point = point.but(uncertainty=unsure, judged_in=judged_in, **place)
        return state.but(points={**state.points, key: point}, open_points=(*state.open_points, key))
    if known.analysis:  # it was only looked at; from now on it counts
        counted = known.but(analysis=False)
        state = state.but(points={**state.points, key: counted})
        if known.status is PointStatus.LABELLED:
            return labelled(state, key)
    if known.status is PointStatus.LABELLED:
        return trajectories.served(state, index, TrajectoryStatus.RUNNING)
    if known.status is PointStatus.FAILED:
        return trajectories.roll_back(state, index, known.reason)
    return state


def labelled(state: CampaignState, key: str) -> CampaignState:
    """Put a labelled point into a set, and let the trajectories that waited for it go on."""
    points = len(state.training) + len(state.validation)
    to_validation = len(state.validation) < state.rules.valid_ratio * points
    if to_validation:
        state = state.but(validation=(*state.validation, key))
    else:
        state = state.but(training=(*state.training, key), pending=(*state.pending, key))
    status = TrajectoryStatus.RUNNING if to_validation else TrajectoryStatus.TRAINING
    for trajectory in state.trajectories:
        if trajectory.waiting_for == key:
            state = trajectories.served(state, trajectory.index, status)
    return settle(thresholds.frozen(state))


def forget(state: CampaignState, key: str) -> CampaignState:
    """Send the trajectories that waited for a point without a label back to their checkpoints."""
    for trajectory in state.trajectories:
        if trajectory.waiting_for == key:
            state = trajectories.roll_back(state, trajectory.index, state.points[key].reason)
    return settle(state)


def trained(state: CampaignState, points: tuple[str, ...]) -> CampaignState:
    """After a round: let the trajectories whose points were in it run on."""
    learnt = frozenset(points)
    done = (
        t.index
        for t in state.trajectories
        if t.status is TrajectoryStatus.TRAINING and t.waiting_for in learnt
    )
    state = trajectories.changed(state, *done, status=TrajectoryStatus.RUNNING, waiting_for=None)
    return settle(state, fresh_errors=True)


def drained(state: CampaignState) -> CampaignState:
    """Once nothing runs any more, nor will, converge the members or publish them.

    A round that was cut short is not taken up; its points stay pending, should exploring go on.
    """
    if any(not isinstance(a, Assess) for a in state.in_flight.values()):
        return state
    if budget.labels_to_come(state):  # others stay open, should there be more of a budget
        return state
    if state.round is not None:
        state = state.but(round=None, pending=(*state.round.points, *state.pending))
        members = {
            tag: m.but(owed=m.owed - m.round_epochs, round_epochs=0) if m.round_epochs < 0 else m
            for tag, m in state.members.items()
        }
        state = state.but(members=members)
    if not state.rules.converge_al:
        return convergence.to_publish(state, Phase.PUBLISH)
    tags = tuple(state.members)
    if state.rules.converge_best:
        tags = (best_member(state),)
    return convergence.begin(state, Phase.CONVERGE, tags)


def best_member(state: CampaignState) -> str:
    """Return the tag of the member with the lowest validation loss."""
    members = state.members.values()
    return min(members, key=lambda m: m.errors.valid_loss if m.errors else math.inf).tag


def reopened(state: CampaignState) -> CampaignState:
    """Explore, or go on exploring, by the rules as they are today.

    More and longer trajectories are taken up at any time; what was stopped goes on if no stopping
    rule holds any more.
    """
    if not state.trajectories:
        return state
    longer = trajectories.complete(state)
    for trajectory in longer.trajectories:
        finished = trajectory.status is TrajectoryStatus.FINISHED
        if finished and trajectory.step < state.rules.max_md_steps:
            longer = trajectories.changed(longer, trajectory.index, status=TrajectoryStatus.RUNNING)
    if state.phase is Phase.ACTIVE:
        return longer
    if ending(longer, "active") is not None:
        return state
    return settle(
        convergence.forgotten(longer).but(phase=Phase.ACTIVE, stop_rule="", stop_reason="")
    )


def _stop_if_due(state: CampaignState, fresh_errors: bool = False) -> CampaignState:
    if state.phase is not Phase.ACTIVE:
        return state
    to_come = budget.labels_to_come(state)
    learning = bool(to_come or state.pending or state.round is not None)
    end = ending(state, "active", fresh_errors, learning)
    if end is None:
        return state
    state = state.but(phase=Phase.DRAIN, stop_rule=end.rule.name, stop_reason=end.reason)
    return drained(state)


def _train(state: CampaignState) -> CampaignState:
    """Start a round if labelled points wait for one, or epochs are owed, and none is under way."""
    owing = any(m.owed for m in state.members.values())  # a round of its own, if none is due
    due = state.pending or owing
    if state.round is not None or not due or state.phase is not Phase.ACTIVE:
        return state
    pending = state.pending
    epochs = rounds.epochs_for(state, len(pending)) if pending else 0
    return rounds.open_round(state.but(pending=()), "active", epochs, pending)
