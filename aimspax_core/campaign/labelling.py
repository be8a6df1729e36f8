"""Rules of labels: they arrive, fail, are gone from their store, or cannot be computed."""

from __future__ import annotations

from aimspax_core.campaign import budget, exploration, initial
from aimspax_core.campaign.actions import Label, label_id
from aimspax_core.campaign.events import LabelArrived, LabelFailed, LabelsGone
from aimspax_core.campaign.flight import fail, landed
from aimspax_core.campaign.state import CampaignState, Phase, Point, PointStatus
from aimspax_core.errors import LabelFailure
from aimspax_core.labels import tries

LABEL_MEMORY = 101
"""How many label times are remembered; the time budget of a segment follows from them."""


def arrived(state: CampaignState, event: LabelArrived) -> CampaignState:
    """Put a label where it belongs, and let go on what waited for it."""
    state = landed(state, label_id(event.key))
    point = state.points[event.key]
    if point.status is not PointStatus.REQUESTED:
        return state  # a label that came twice counts once
    if event.key in state.restoring:
        return _restored(state, event)
    point = _with_label(point, event)
    state = state.but(
        points={**state.points, event.key: point},
        open_points=tuple(k for k in state.open_points if k != event.key),
        label_seconds=(*state.label_seconds, event.wall_s)[-LABEL_MEMORY:],
        labels=state.labels + 1,
        core_hours=state.core_hours + event.core_hours,
        lost_labels=(),
    )
    state = budget.noted(_judged(state, event), event)
    if point.sampling_step is not None:
        return initial.label_resolved(state)
    if point.analysis:
        return exploration.settle(state)
    return exploration.labelled(state, event.key)


def _with_label(point: Point, event: LabelArrived) -> Point:
    return point.but(
        status=PointStatus.LABELLED, from_store=event.from_store, computed_at=event.computed_at
    )


def _judged(state: CampaignState, event: LabelArrived) -> CampaignState:
    """Hold the label against what the committee had said, unless a member has trained on it."""
    known = (event.key in member.training for member in state.members.values())
    if event.judged is None or any(known):
        return state
    return state.but(judgement=state.judgement.with_point(event.judged))


def failed(state: CampaignState, event: LabelFailed) -> CampaignState:
    """Give up a point, and send back what waited for its label."""
    state = landed(state, label_id(event.key))
    point = state.points[event.key]
    if point.status is not PointStatus.REQUESTED:
        return state
    if event.key in state.restoring:
        return fail(state, f"label {event.key[:8]} is gone, and was not computed: {event.reason}")
    without_label = point.but(status=PointStatus.FAILED, reason=event.reason, failure=event.failure)
    state = state.but(
        points={**state.points, event.key: without_label},
        open_points=tuple(k for k in state.open_points if k != event.key),
        failed_labels=state.failed_labels + 1,
        refused=state.refused + event.refused,
    )
    if point.sampling_step is not None:
        return initial.label_resolved(state)
    return exploration.forget(state, event.key)


def gone(state: CampaignState, event: LabelsGone) -> CampaignState:
    """Ask again for labels that are in sets; nothing else begins until they are there."""
    wanted = {
        key: state.points[key].but(status=PointStatus.REQUESTED)
        for key in event.keys
        if key not in state.restoring  # several tasks may have missed it
    }
    return state.but(
        points={**state.points, **wanted},
        open_points=(*state.open_points, *wanted),
        restoring=(*state.restoring, *wanted),
    )


def _restored(state: CampaignState, event: LabelArrived) -> CampaignState:
    """Take a label that is there again; it is in its sets already, and is not counted twice.

    What it has taken is paid, unless it is the label that was there: it was out of sight only.
    """
    before = state.points[event.key]
    again = not event.computed_at or event.computed_at != before.computed_at
    point = _with_label(before, event)
    state = state.but(
        points={**state.points, event.key: point},
        open_points=tuple(k for k in state.open_points if k != event.key),
        restoring=tuple(k for k in state.restoring if k != event.key),
    )
    if state.rules.pays_again and again:
        state = state.but(core_hours=state.core_hours + event.core_hours)
        state = budget.noted(state, event)
    return gone_on(state)


def gone_on(state: CampaignState) -> CampaignState:
    """Go on as far as nothing has to be waited for."""
    if state.phase in (Phase.ACTIVE, Phase.DRAIN):
        return exploration.settle(state)
    return initial.label_resolved(state)


def impossible(state: CampaignState, action: Label, reason: str) -> CampaignState:
    """Give a label up, or stop the campaign if several in a row say that the reference is broken.

    A campaign that stops wants those labels again: their structures were not the cause.
    """
    lost = state.lost_labels
    if action.key in state.restoring:
        return fail(state, f"label {action.key[:8]} is gone, and was not computed: {reason}")
    if not tries.reference_broken(len(lost) + 1):
        state = state.but(lost_labels=(*lost, action.key))
        return failed(state, LabelFailed(key=action.key, reason=reason, failure=LabelFailure.LOST))
    wanted = {
        key: state.points[key].but(
            status=PointStatus.REQUESTED, reason="", failure=LabelFailure.OTHER
        )
        for key in lost
    }
    state = state.but(
        points={**state.points, **wanted},
        open_points=(*state.open_points, *lost),
        failed_labels=state.failed_labels - len(lost),
        lost_labels=(),
    )
    return fail(state, tries.broken_text(reason))
