"""Rules of candidates: which of the structures that wait for a label get it, and which do not.

With `candidates: first` all do, in their order, as in the original. With `largest_error` a label is
launched only once there is a slot for it, where the largest error is to be expected; what has not
been launched is refused where its label would not tell much any more. A trajectory whose structure
is refused goes on from there, and no label is paid for. With `novelty` one of two that are nearly
the same is refused, too, whether there are slots or not. The control (`selection: random`) is never
chosen among: chance takes its structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aimspax_core.campaign import budget
from aimspax_core.campaign.actions import Label, Propagate, label_id
from aimspax_core.campaign.events import CandidatesRefused, Refusal
from aimspax_core.campaign.state import CampaignState, Phase, Point, PointStatus, TrajectoryStatus
from aimspax_core.campaign.thresholds import calibration_of
from aimspax_core.uncertainty.calibration import Calibration
from aimspax_core.uncertainty.nearness import apart

KNOWN = 300
"""Structures that candidates are held against, at most: each new ensemble evaluates them once."""


def chooses(state: CampaignState) -> bool:
    """Return whether candidates are chosen among, by the rules in force."""
    return state.rules.candidates == "largest_error" and state.rules.random_share is None


def labels(state: CampaignState) -> list[Label]:
    """Return the labels to launch now, of open points that are not in flight, within the budget."""
    # Most open points are in flight already: to make an action of each only to drop it was most
    # of the time that a campaign with hundreds of them took over an event.
    open_points = [key for key in state.open_points if label_id(key) not in state.in_flight]
    keys = _chosen(state, open_points) if chooses(state) else budget.beginning(state, open_points)
    return [Label(key=key) for key in keys]


def _chosen(state: CampaignState, open_points: Sequence[str]) -> list[str]:
    """Return what is not chosen among, and where the largest errors are to be expected.

    What the budget has nothing left for takes no slot from what it has.
    """
    waiting = [key for key in open_points if _is_candidate(state, key)]
    at_once = [key for key in open_points if not _is_candidate(state, key)]
    taken = budget.beginning(state, at_once)
    free = max(0, state.rules.label_slots - state.labels_under_way - len(taken))
    if not waiting or not free:
        return taken
    if len(waiting) > free or budget.limited(state):
        waiting = _by_error(state, waiting)
    return budget.beginning(state, (*at_once, *waiting))[: len(taken) + free]


def refusals(state: CampaignState) -> CandidatesRefused | None:
    """Return which candidates are refused as things are; None if none is.

    It comes before `labels`, which takes all candidates for good ones.
    """
    exploring = state.phase in (Phase.ACTIVE, Phase.DRAIN) and state.paused is None
    if not chooses(state) or not exploring:
        return None
    found = tuple(_refused(state))
    return CandidatesRefused(refusals=found) if found else None


def refused(state: CampaignState, event: CandidatesRefused) -> CampaignState:
    """Forget structures, and let the trajectories that waited for their labels go on."""
    gone = {one.key for one in event.refusals}
    counts = dict(state.candidates_refused)
    for one in event.refusals:
        counts[one.why] = counts.get(one.why, 0) + 1
    return state.but(
        points={key: point for key, point in state.points.items() if key not in gone},
        open_points=tuple(key for key in state.open_points if key not in gone),
        trajectories=tuple(
            t.but(status=TrajectoryStatus.RUNNING, waiting_for=None) if t.waiting_for in gone else t
            for t in state.trajectories
        ),
        candidates_refused=counts,
    )


def launched(state: CampaignState, action: Label) -> CampaignState:
    """Remember that a label was begun: whatever becomes of the task, it is not refused any more."""
    point = state.points[action.key]
    if point.chosen or not chooses(state):
        return state
    return state.but(points={**state.points, action.key: point.but(chosen=True)})


def judged_in(state: CampaignState, action_id: str) -> int:
    """Return the number of the ensemble that a segment in flight is judged by."""
    action = state.in_flight.get(action_id)
    old = isinstance(action, Propagate) and action.checkpoints != state.ensemble
    return state.ensemble_number - old


def expected_errors(state: CampaignState, points: Sequence[Point]) -> list[float]:
    """Return the error to be expected of each structure, by the calibration of its geometry.

    While there is none, nor one of all, the uncertainty stands for it.
    """
    own: dict[int, Calibration | None] = {}
    errors = []
    for point in points:
        if point.geometry not in own:
            own[point.geometry] = calibration_of(state, point.geometry)
        calibration, spread = own[point.geometry], point.uncertainty or 0.0
        errors.append(spread if calibration is None else float(calibration.expected(spread)))
    return errors


def _refused(state: CampaignState) -> Iterator[Refusal]:
    waiting = [
        key
        for key in state.open_points
        if label_id(key) not in state.in_flight and _is_candidate(state, key)
    ]
    if state.phase is Phase.DRAIN:
        yield from (Refusal(key=key, why="ended") for key in waiting)
        return
    for key in waiting:
        if state.points[key].judged_in != state.ensemble_number:
            yield Refusal(key=key, why="renewed")
    fresh = [key for key in waiting if state.points[key].judged_in == state.ensemble_number]
    yield from (Refusal(key=key, why="near") for key in _near(state, fresh))


def _near(state: CampaignState, keys: Sequence[str]) -> Iterator[str]:
    """Yield those that are nearly the same as one that is known, or waits with a larger error.

    Only what one ensemble has judged is held against each other, in the unit in which the distance
    of the candidate is told.
    """
    limit = state.rules.novelty
    if not limit or not keys:
        return
    others = [
        p
        for p in state.points.values()
        if p.sketch and p.judged_in == state.ensemble_number and p.chosen and not p.reason
    ]
    for key in _by_error(state, keys):
        point = state.points[key]
        known_one = point.distance is not None and point.distance < limit
        if known_one or any(_same(point, other, limit) for other in others):
            yield key
        elif point.sketch:
            others.append(point)


def _same(point: Point, other: Point, limit: float) -> bool:
    if point.unit is None or other.unit is None or point.geometry != other.geometry:
        return False
    return apart(point.sketch, other.sketch) < limit * point.unit


def _is_candidate(state: CampaignState, key: str) -> bool:
    """Return whether a structure was found by exploring, and its label has never been launched.

    One that was taken because its trajectory had not crossed for long is not chosen among.
    """
    point = state.points[key]
    found = point.uncertainty is not None and not point.analysis
    return found and not point.chosen and point.status is PointStatus.REQUESTED


def _by_error(state: CampaignState, keys: Sequence[str]) -> list[str]:
    """Return keys, the largest expected error first.

    Where a curve is flat the larger uncertainty decides, then who came first.
    """
    points = [state.points[key] for key in keys]
    worth = zip(expected_errors(state, points), (p.uncertainty or 0.0 for p in points), strict=True)
    of_key = dict(zip(keys, worth, strict=True))
    return sorted(keys, key=lambda key: of_key[key], reverse=True)


def known(state: CampaignState) -> tuple[str, ...]:
    """Return the structures that candidates are held against: those trained on, and to be labelled.

    Those for `analysis` are not trained on. The latest, at most `KNOWN`; none where nothing is held
    against any.
    """
    if not chooses(state) or not state.rules.novelty:
        return ()
    trained_on = (key for member in state.members.values() for key in member.training)
    begun = (
        key
        for key in state.open_points
        if not state.points[key].analysis and not _is_candidate(state, key)
    )
    return tuple(dict.fromkeys((*trained_on, *state.training, *begun)))[-KNOWN:]
