"""A campaign in sentences: a line that a chemist can follow for each event that matters."""

from __future__ import annotations

from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    LabelArrived,
    LabelFailed,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingFinished,
)
from aimspax_core.campaign.state import CampaignState, Phase, Round, TrajectoryStatus

_NEWS = {
    Phase.ACTIVE: "active learning begins",
    Phase.INITIAL_CONVERGE: "converging on the initial dataset",
    Phase.CONVERGE: "converging on the final dataset",
    Phase.FINISHED: "finished",
}


def lines(before: CampaignState | None, event: Event, after: CampaignState) -> list[str]:
    """Describe an event, and the change of phase that it brought; an empty list is no news.

    Args:
        before: The state before the event; None before the first.
        event: The event.
        after: The state after it.
    """
    told = _told(before, event, after)
    news = [told] if told else []
    news += _given_up(before, after)
    if before is not None and before.phase is not after.phase:
        if after.stop_reason and after.stop_reason != before.stop_reason:
            news.append(f"{'FAILED: ' if after.phase is Phase.FAILED else ''}{after.stop_reason}")
        if after.phase in _NEWS:
            news.append(_NEWS[after.phase])
    return news


def _told(before: CampaignState | None, event: Event, after: CampaignState) -> str | None:
    match event:
        case Started():
            rules = event.rules
            geometries = "1 geometry" if rules.geometries == 1 else f"{rules.geometries} geometries"
            return f"{len(rules.tags)} members, {geometries}: {', '.join(rules.tags)}"
        case Resumed():
            changed = f"; changed: {', '.join(event.changes)}" if event.changes else ""
            return f"taken up again in phase {after.phase}, {after.labels} labels so far{changed}"
        case ExplorationAsked():
            return f"{len(after.trajectories)} trajectories"
        case Sampled():
            kept_back = f", {event.refused} kept back by the gate" if event.refused else ""
            return (
                f"sampling step {after.sampling_step}: geometry {event.geometry} gave "
                f"{len(event.found)} structures{kept_back}"
            )
        case LabelFailed():
            return f"label {event.key[:8]} failed: {event.reason}"
        case LabelArrived():
            return _label(before, event, after)
        case SegmentFinished():
            return _segment(event, after)
        case TrainingFinished():
            return _training(before, event, after)
        case ConvergenceAdvanced():
            best = f"best force MAE {1000 * event.best.mae_f:.1f} meV/Å" if event.best else ""
            done = "converged" if event.converged else "converging"
            return f"{event.tag} {done}: {after.members[event.tag].converge_epochs} epochs, {best}"
        case Published():
            return f"{event.what} models and datasets written"
        case TaskLost():
            told = event.counted and not event.final  # the end of the campaign says the reason
            return f"{event.action_id} was lost: {event.reason}" if told else None
    return None


def _given_up(before: CampaignState | None, after: CampaignState) -> list[str]:
    """A line for each trajectory that will not run again because it failed too often."""
    was = before.trajectories if before is not None else ()
    return [
        f"trajectory {new.index} is given up after {new.rollbacks_in_a_row} rollbacks in a row"
        for old, new in zip(was, after.trajectories, strict=False)
        if new.status is TrajectoryStatus.FAILED and old.status is not TrajectoryStatus.FAILED
    ]


def _label(before: CampaignState | None, event: LabelArrived, after: CampaignState) -> str | None:
    """A line for every label of the exploration; the initial ones are told in steps."""
    point = after.points[event.key]
    new = before is not None and before.points[event.key] != point
    if point.sampling_step is not None or not new:
        return None
    kind = "validation" if event.key in after.validation[-1:] else "training"
    return (
        f"label {event.key[:8]} of trajectory {point.trajectory} ({event.wall_s:.2f} s) goes to "
        f"{kind}; {len(after.training)} + {len(after.validation)} points found"
    )


def _segment(event: SegmentFinished, after: CampaignState) -> str:
    counts = {
        word: sum(r.outcome == word for r in event.results)
        for word in ("crossed", "running", "finished", "exploded")
    }
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    threshold = after.window.threshold(after.rules.c_x)
    level = f"threshold {threshold:.4f} eV/Å" if threshold is not None else "no threshold yet"
    steps = max((r.step for r in event.results), default=0)
    reasons = {r.reason for r in event.results if r.outcome == "exploded"}
    why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
    return f"MD to step {steps}: {told}{why}; {level}"


def _training(
    before: CampaignState | None, event: TrainingFinished, after: CampaignState
) -> str | None:
    """A line for each round, when its last member has trained."""
    if before is None or before.round is None or after.rounds == before.rounds:
        return None
    error = after.mean_force_mae
    told = f"validation force MAE {1000 * error:.1f} meV/Å" if error is not None else "no error yet"
    epochs = min(m.epochs for m in after.members.values())
    return (
        f"round {before.round.number} on {_new_points(before.round)}: {told} "
        f"(training sets of {after.training_set_size}, {epochs} epochs)"
    )


def _new_points(found: Round) -> str:
    count = len(found.points)
    return "1 new point" if count == 1 else f"{count} new points"
