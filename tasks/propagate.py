"""Advance a batch of trajectories in lockstep with one version of the ensemble."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prefect import task

from aimspax_core.campaign.events import SegmentFinished, TrajectoryResult
from aimspax_core.campaign.state import Trajectory
from aimspax_core.reference.engines import build_reference
from aimspax_core.reference.gate import check_structure
from aimspax_core.rundir import RunDir
from aimspax_core.sampling.dynamics import (
    MDState,
    load_state,
    new_stream,
    random_stream,
    save_state,
    start,
)
from aimspax_core.sampling.segment import (
    Outcome,
    Result,
    SegmentSettings,
    Start,
    run_segment,
)
from aimspax_core.settings.load import Settings
from aimspax_core.structures import read_geometries
from aimspax_core.uncertainty import Window
from tasks.structures import keep_structure

EXPLORING_STREAM = 1
"""First number of the random streams of exploring trajectories; sampling ones have 0."""


@dataclass(frozen=True)
class PropagateRequest:
    """Which trajectories to advance, and with what.

    Attributes:
        action_id: The action that this carries out.
        number: Number of the segment; names the MD state files that it writes.
        run: The run directory.
        settings: The settings in force.
        trajectories: Where the trajectories are.
        elements: Atomic numbers that the models know.
        checkpoints: The members' checkpoints.
        window: The uncertainties that the threshold follows from.
        time_budget_s: Time after which trajectories halt at their next check.
    """

    action_id: str
    number: int
    run: RunDir
    settings: Settings
    trajectories: tuple[Trajectory, ...]
    elements: tuple[int, ...]
    checkpoints: tuple[Path, ...]
    window: Window
    time_budget_s: float


@task(name="propagate", task_run_name="propagate-{request.number}")
def propagate(request: PropagateRequest) -> SegmentFinished:
    """Run a segment; structures that crossed and MD states are on disk when this returns."""
    began = time.perf_counter()
    from aimspax_core.model.kept import kept

    settings = request.settings
    committee = kept(settings.model, request.elements).ensemble.committee(request.checkpoints)
    segment = run_segment(
        [Start(t.index, _state(request, t), t.since_crossing) for t in request.trajectories],
        settings.md,
        _segment_settings(request),
        request.window,
        committee.evaluate,
        partial(check_structure, gate=settings.gate),
    )
    identity = build_reference(settings.reference, settings.directory).identity()
    before = {t.index: t for t in request.trajectories}
    return SegmentFinished(
        action_id=request.action_id,
        results=tuple(_kept(request, r, before[r.trajectory], identity) for r in segment.results),
        uncertainties=tuple(check.uncertainty for check in segment.checks),
        evaluations=segment.stats.evaluations,
        structures=segment.stats.structures,
        seconds=segment.stats.seconds,
        task_seconds=time.perf_counter() - began,
    )


def _state(request: PropagateRequest, trajectory: Trajectory) -> MDState:
    """Where a trajectory goes on; after a rollback with noise that it has not seen yet."""
    md = request.settings.md
    rng = random_stream(md.MD_seed, EXPLORING_STREAM, trajectory.index, trajectory.rollbacks)
    if trajectory.version == 0:
        geometries = read_geometries(request.settings.geometry_path)
        return start(geometries[trajectory.geometry], md, rng)
    state = load_state(request.run.trajectory(trajectory.index, trajectory.version))
    rolled_back = trajectory.rollbacks_in_a_row and trajectory.version == trajectory.checkpoint
    if not rolled_back:
        return state
    if trajectory.rollbacks_in_a_row > 1:
        # New noise alone led it to the same place again.
        return replace(start(state.structure, md, rng), step=state.step)
    return new_stream(state, rng)


def _segment_settings(request: PropagateRequest) -> SegmentSettings:
    al = request.settings.al
    return SegmentSettings(
        skip_step=al.skip_step_mlff,
        c_x=al.c_x,
        uncertainty_type=al.uncertainty_type,
        max_steps=al.max_MD_steps,
        uncertain_limit=al.uncert_not_crossed_limit,
        max_force=request.settings.gate.max_force,
        time_budget_s=request.time_budget_s,
    )


def _kept(
    request: PropagateRequest, result: Result, before: Trajectory, identity: dict[str, object]
) -> TrajectoryResult:
    """Write what a trajectory came to, and describe it for the journal."""
    key = None
    if result.state is not None:
        save_state(request.run.trajectory(result.trajectory, request.number), result.state)
        if result.outcome is Outcome.CROSSED:
            key = keep_structure(request.run, result.state.structure, identity)
    return TrajectoryResult(
        trajectory=result.trajectory,
        outcome=result.outcome.value,
        version=request.number if result.state is not None else before.version,
        step=before.step if result.state is None else result.state.step,
        since_crossing=result.since_crossing,
        key=key,
        reason=result.reason,
    )
