"""What a damaged file, a training that diverged, or rollbacks without end cost, in sentences."""

from __future__ import annotations

from collections import Counter

from aimspax_core.campaign.events import FileDamaged, TrainingDiverged
from aimspax_core.campaign.state import CampaignState, Trajectory, TrajectoryStatus


def damaged_text(before: CampaignState, event: FileDamaged, after: CampaignState) -> str:
    """Return what is damaged, what the campaign goes on from instead, and what that costs."""
    match event.what:
        case "checkpoint":
            subject = f"checkpoint {event.name} of {event.which}"
            then = _checkpoint(before, event, after)
        case "trajectory":
            subject = f"MD state {event.name} of trajectory {event.which}"
            then = _trajectory(before, event, after)
        case "sampler":
            subject = f"MD state {event.name} of the sampling of geometry {event.which}"
            then = "it begins again from the geometry, with new noise"
    return f"{subject} is damaged or gone ({event.reason}): {then}"


def _checkpoint(before: CampaignState, event: FileDamaged, after: CampaignState) -> str:
    old, new = before.members[event.which], after.members[event.which]
    said = []
    if old.checkpoint == event.name != new.checkpoint:
        lost = _epochs(old.epochs - new.epochs)
        if new.checkpoint is None:
            said.append(f"none before it is left, it is trained anew from its data ({lost})")
        else:
            said.append(f"back to {new.checkpoint}, {lost} to train again")
    if old.converging == event.name != new.converging:
        repeated = _epochs(old.converge_epochs - new.converge_epochs)
        whence = f"goes on from {new.converging}" if new.converge_epochs else "begins again"
        said.append(f"its convergence {whence} ({repeated} lost)")
    if not said and before.ensemble != after.ensemble:
        position = list(after.members).index(event.which)
        instead = after.ensemble[position]
        said.append(f"trajectories go on with {instead}" if instead else "trajectories wait for it")
    return "; ".join(said) or "it is not needed any more"


def _trajectory(before: CampaignState, event: FileDamaged, after: CampaignState) -> str:
    index = int(event.which)
    old, new = before.trajectories[index], after.trajectories[index]
    if old.version == new.version:
        return "it goes on; if it has to be set back, then to its geometry"
    where = f"its last label, step {new.step}" if new.version else "its geometry"
    return f"back to {where} (it was at step {old.step}), with new noise"


def diverged_text(event: TrainingDiverged, after: CampaignState) -> str:
    """Return that training diverged, and what the member does next."""
    member = after.members[event.tag]
    if member.diverged:
        whence = member.converging or member.checkpoint or "its first weights"
        then = f"back to {whence}, with a fresh optimizer and another order of batches"
    else:
        then = "given up for now, it goes on with the weights from before"
    return f"training diverged: {event.reason}; {then}"


def given_up_lines(before: CampaignState, after: CampaignState) -> list[str]:
    """Return a line for each trajectory that will not run again because it failed too often."""
    if before.trajectories is after.trajectories:
        return []
    return [
        f"trajectory {new.index} is given up after {new.rollbacks_in_a_row} rollbacks in a row"
        + why_given_up(new)
        for old, new in zip(before.trajectories, after.trajectories, strict=False)
        if new is not old
        and new.status is TrajectoryStatus.FAILED
        and old.status is not TrajectoryStatus.FAILED
    ]


def why_given_up(trajectory: Trajectory) -> str:
    """Return the reasons of a trajectory's rollbacks in a row, each with how often it came."""
    reasons = Counter(reason for reason in trajectory.setbacks if reason)
    if not reasons:
        return ""
    if len(reasons) == len(trajectory.setbacks) > 1:  # numbers in them make each another one
        return f"; the last: {trajectory.setbacks[-1]}"
    return ": " + "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common())


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
