"""Rules of a single trajectory: its geometry, what a label does for it, the ways back."""

from __future__ import annotations

from typing import Any

from aimspax_core.campaign import new_beginnings
from aimspax_core.campaign.state import CampaignState, Trajectory, TrajectoryStatus

MAX_ROLLBACKS = 10
"""Rollbacks in a row, without a label in between, after which a trajectory is given up."""


def complete(state: CampaignState) -> CampaignState:
    """Add the trajectories that are missing; each gets the next geometry in turn."""
    missing = range(len(state.trajectories), state.rules.num_trajectories)
    new = (Trajectory(index=i, geometry=i % state.rules.geometries) for i in missing)
    return state.but(trajectories=(*state.trajectories, *new))


def number_in_geometry(state: CampaignState, index: int) -> int:
    """Return which of its geometry's trajectories a trajectory is, from 0."""
    return index // state.rules.geometries


def served(state: CampaignState, index: int, status: TrajectoryStatus) -> CampaignState:
    """Make the structure that was labelled its trajectory's checkpoint, if that is wanted."""
    trajectory = state.trajectories[index]
    kept = state.rules.update_checkpoints
    origin = new_beginnings.of_trajectory(state, trajectory)
    return changed(
        state,
        index,
        status=status,
        waiting_for=trajectory.waiting_for if status is TrajectoryStatus.TRAINING else None,
        checkpoint=trajectory.version if kept else trajectory.checkpoint,
        checkpoint_step=trajectory.step if kept else trajectory.checkpoint_step,
        since_crossing=0,
        rollbacks_in_a_row=0,
        setbacks=(),
        origin=origin,
        begun_anew=trajectory.begun_anew + (origin is not None),
    )


def state_lost(state: CampaignState, index: int, version: int) -> CampaignState:
    """Go on without an MD state file: from the checkpoint's, or from the geometry; with new noise.

    It is no fault of the trajectory, and does not count among its rollbacks in a row. A label that
    it waits for is waited for all the same.
    """
    trajectory = state.trajectories[index]
    if version == trajectory.checkpoint:
        state = changed(state, index, checkpoint=0, checkpoint_step=0)
    if version != trajectory.version:
        return state
    trajectory = state.trajectories[index]
    return changed(
        state,
        index,
        version=trajectory.checkpoint,
        step=trajectory.checkpoint_step,
        since_crossing=0,
        rollbacks=trajectory.rollbacks + 1,
        rollbacks_in_a_row=max(1, trajectory.rollbacks_in_a_row),  # 0 is the noise of before
    )


def roll_back(state: CampaignState, index: int, reason: str) -> CampaignState:
    """Send a trajectory back to its checkpoint, with new noise, so that it takes another way."""
    trajectory = state.trajectories[index]
    in_a_row = trajectory.rollbacks_in_a_row + 1
    return changed(
        state,
        index,
        status=TrajectoryStatus.FAILED if in_a_row >= MAX_ROLLBACKS else TrajectoryStatus.RUNNING,
        waiting_for=None,
        origin=None,
        version=trajectory.checkpoint,
        step=trajectory.checkpoint_step,
        since_crossing=0,
        rollbacks=trajectory.rollbacks + 1,
        rollbacks_in_a_row=in_a_row,
        setbacks=(*trajectory.setbacks, reason),
    )


def changed(state: CampaignState, *indices: int, **changes: Any) -> CampaignState:
    """Return a copy with some trajectories changed, all in the same way."""
    trajectories = list(state.trajectories)
    for index in indices:
        trajectories[index] = trajectories[index].but(**changes)
    return state.but(trajectories=tuple(trajectories))
