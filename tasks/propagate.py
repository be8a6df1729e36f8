"""Advance a batch of trajectories in lockstep with one version of the ensemble."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from prefect import task

from aimspax_core.campaign.events import Look, SegmentFinished, TrajectoryResult
from aimspax_core.campaign.state import Trajectory
from aimspax_core.errors import StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.output.trajectories import part
from aimspax_core.random_streams import (
    CHOOSING_STREAM,
    EXPLORING_STREAM,
    RATTLING_STREAM,
    RESTARTING_STREAM,
)
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import (
    MDState,
    begin_anew,
    load_state,
    needs_stress,
    new_stream,
    random_stream,
    save_state,
    start,
)
from aimspax_core.sampling.lockstep import Evaluate
from aimspax_core.sampling.rattling import passing, rattled
from aimspax_core.sampling.segment import SegmentSettings, Start, run_segment
from aimspax_core.sampling.segment_outcomes import Outcome, Result
from aimspax_core.sampling.snapshots import save_prediction, write_snapshots
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.settings import Settings
from aimspax_core.stopping.limits import MAX_MD_STEPS
from aimspax_core.uncertainty.nearness import Place
from aimspax_core.uncertainty.threshold import Window

log = logging.getLogger(f"aimspax.{__name__}")


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
        windows: What each threshold follows from: one that all share, or one for each geometry.
        time_budget_s: Time after which trajectories halt at their next check.
        tags: The members' tags, in the order of their checkpoints; in saved frames, members
            without one are numbered, and heads of one always.
        most_steps: Of each trajectory, the steps after which it halts at its next check; none: its
            steps are not bounded.
        numbers: Of each trajectory, which of its geometry's it is, from 0; none: all are the first.
    """

    action_id: str
    number: int
    run: RunDir
    settings: Settings
    trajectories: tuple[Trajectory, ...]
    elements: tuple[int, ...]
    checkpoints: tuple[Path, ...]
    windows: tuple[Window, ...]
    time_budget_s: float
    tags: tuple[str, ...] = ()
    most_steps: tuple[float, ...] = ()
    known: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


@task(name="propagate", task_run_name="propagate-{request.number}")
def propagate(request: PropagateRequest) -> SegmentFinished:
    """Run a segment; all structures, MD states and frames are on disk when this returns."""
    began = time.perf_counter()
    settings = request.settings
    evaluate, judge = _models(request)
    segment = run_segment(
        _starts(request),
        _segment_settings(request),
        request.windows,
        evaluate,
        partial(check_structure, gate=settings.gate),
        judge,
    )
    before = {t.index: t for t in request.trajectories}
    found = _places(request, segment.results)
    return SegmentFinished(
        action_id=request.action_id,
        results=tuple(
            _result(request, r, before[r.trajectory], found.get(r.trajectory))
            for r in segment.results
        ),
        uncertainties=tuple(check.uncertainty for check in segment.checks),
        checked=tuple(check.trajectory for check in segment.checks),
        at_steps=tuple(check.step for check in segment.checks),
        thresholds=tuple(check.threshold for check in segment.checks),
        looks=tuple(
            look for r in segment.results for look in _looks(request, r, before[r.trajectory])
        ),
        evaluations=segment.stats.evaluations,
        structures=segment.stats.structures,
        seconds=segment.stats.seconds,
        task_seconds=time.perf_counter() - began,
    )


def _models(request: PropagateRequest) -> tuple[Evaluate, Evaluate | None]:
    """Return what drives the MD, and the committee that judges if a foundation model drives."""
    from aimspax_core.model.worker_memory import worker_memory

    settings, memory = request.settings, worker_memory()
    ensemble = memory.ensemble(settings.model, request.elements)
    committee = ensemble.committee(request.checkpoints)
    stress = any(needs_stress(settings.md(t.geometry)) for t in request.trajectories)
    if not settings.al.use_foundational:
        return partial(committee.evaluate, stress=stress), None
    model = settings.al.foundational_model_settings
    kind, directory = settings.al.foundational_model, settings.directory
    driver = memory.foundation(kind, model, directory, settings.model).driver
    return partial(driver.evaluate, stress=stress), committee.evaluate


def _starts(request: PropagateRequest) -> list[Start]:
    """Return where each trajectory goes on; with the geometry's volume if its cell moves."""
    geometries = _geometries(request)
    starts = []
    most_steps = request.most_steps or (math.inf,) * len(request.trajectories)
    numbers = request.numbers or (0,) * len(request.trajectories)
    for t, most, number in zip(request.trajectories, most_steps, numbers, strict=True):
        md = request.settings.md(t.geometry, number)
        volume = geometries[t.geometry].cell.volume if needs_stress(md) else None
        begun = _state(request, t, number, geometries)
        which = t.geometry if len(request.windows) > 1 else 0
        by = _chance(md.MD_seed, t)
        starts.append(Start(t.index, begun, md, t.since_crossing, volume, most, which, by))
    return starts


def _chance(md_seed: int, trajectory: Trajectory) -> Callable[[int], float]:
    """Return the random number of each step of a trajectory, wherever its life is cut."""
    path = (CHOOSING_STREAM, trajectory.index, trajectory.rollbacks)
    return lambda step: float(random_stream(md_seed, *path, step).random())


def _geometries(request: PropagateRequest) -> dict[int, Atoms]:
    """Read the geometries of trajectories that begin, and of those whose cells move."""
    settings = request.settings
    needed = sorted(
        {
            t.geometry
            for t in request.trajectories
            if t.version == 0 or needs_stress(settings.md(t.geometry))
        }
    )
    return dict(zip(needed, settings.geometries(needed), strict=True))


def _state(
    request: PropagateRequest, trajectory: Trajectory, number: int, geometries: dict[int, Atoms]
) -> MDState:
    """Return the state that a trajectory goes on from; after a rollback with new random numbers."""
    md = request.settings.md(trajectory.geometry, number)
    rng = random_stream(md.MD_seed, EXPLORING_STREAM, trajectory.index, trajectory.rollbacks)
    held = request.settings.held_atoms(trajectory.geometry)
    if trajectory.origin is not None:
        stored = LabelStore(request.run.labels).get(trajectory.origin)
        if stored is not None:
            path = (RESTARTING_STREAM, trajectory.index, trajectory.begun_anew)
            new = start(stored.atoms, md, random_stream(md.MD_seed, *path), held)
            return replace(new, step=trajectory.step)
        log.warning(
            "label %.8s is gone: trajectory %d goes on instead of beginning anew from it",
            trajectory.origin,
            trajectory.index,
        )
    if trajectory.version == 0:
        first = _first(request, trajectory, number, geometries[trajectory.geometry], held)
        return start(first, md, rng, held)
    state = load_state(request.run.trajectory(trajectory.index, trajectory.version))
    rolled_back = trajectory.rollbacks_in_a_row and trajectory.version == trajectory.checkpoint
    if not rolled_back:
        return state
    if trajectory.rollbacks_in_a_row > 1:
        # New noise alone led it to the same place again.
        return begin_anew(state, rng, md)
    return new_stream(state, rng, md)


def _first(
    request: PropagateRequest, trajectory: Trajectory, number: int, atoms: Atoms, held: HeldAtoms
) -> Atoms:
    """Return what a trajectory begins with: the geometry, or a rattled copy of its own.

    It is the geometry too if the gate refuses all copies.
    """
    how = request.settings.al.rattle_of(trajectory.geometry)
    if how is None:
        return atoms
    seed = request.settings.md(trajectory.geometry).MD_seed
    rng = random_stream(seed, RATTLING_STREAM, trajectory.index, trajectory.rollbacks)
    draw = partial(rattled, atoms, how, number, rng, held)
    try:
        return passing(draw, request.settings.gate, check_structure)
    except StructureError as error:
        log.warning(
            "trajectory %d begins with the geometry: the gate refuses all its rattled copies (%s)",
            trajectory.index,
            error,
        )
        return atoms


def _segment_settings(request: PropagateRequest) -> SegmentSettings:
    al = request.settings.al
    return SegmentSettings(
        skip_step=al.skip_step_mlff,
        c_x=al.c_x,
        uncertainty_type=al.uncertainty_type,
        uncertainty_of=al.uncertainty_of,
        max_steps=MAX_MD_STEPS.limit(al),
        uncertain_limit=al.uncert_not_crossed_limit,
        max_force=request.settings.gate.max_force,
        time_budget_s=request.time_budget_s,
        look_every=al.analysis_skip if al.analysis else None,
        snapshot_every=al.save_trajectories_interval if al.save_trajectories else None,
        random_share=al.random_share if al.selection == "random" else None,
    )


def _places(request: PropagateRequest, results: Sequence[Result]) -> dict[int, Place]:
    """Return where the structures that crossed are among those that are known, by trajectory.

    By the features of the ensemble's first member: those of one suffice to tell near from far.
    """
    crossed = {
        r.trajectory: r.state.structure
        for r in results
        if r.outcome is Outcome.CROSSED and r.state is not None
    }
    if not request.known or not crossed:
        return {}
    from aimspax_core.model.worker_memory import worker_memory

    among = worker_memory().known_structures(request.checkpoints[0], request.settings.model)
    return among.places(crossed, request.run, request.known)


def _result(
    request: PropagateRequest, result: Result, before: Trajectory, place: Place | None
) -> TrajectoryResult:
    """Write a trajectory's state, structure and frames; return its entry for the journal."""
    key = None
    if request.settings.al.save_trajectories:
        info = {"trajectory": before.index, "geometry": before.geometry}
        info |= {"rollbacks": before.rollbacks}
        frames = part(request.run, "trajectory", before.index, request.number)
        write_snapshots(frames, result.snapshots, info, _names(request))
    if result.state is not None:
        save_state(request.run.trajectory(result.trajectory, request.number), result.state)
        if result.outcome is Outcome.CROSSED:
            identity = _identity(request.settings, before.geometry)
            key = keep_structure(request.run, result.state.structure, identity)
            _keep_prediction(request, key, result)
    return TrajectoryResult(
        trajectory=result.trajectory,
        outcome=result.outcome.value,
        version=request.number if result.state is not None else before.version,
        step=before.step if result.state is None else result.state.step,
        since_crossing=result.since_crossing,
        key=key,
        reason=result.reason,
        distance=None if place is None else place.distance,
        sketch=() if place is None else place.sketch,
        unit=None if place is None else place.unit,
    )


def _names(request: PropagateRequest) -> tuple[str, ...]:
    """Return the names of those that make up the committee: members, or heads of the only one."""
    heads = request.settings.model.heads
    if heads == 1:
        return request.tags
    return tuple(f"{tag}-head-{head}" for tag in request.tags for head in range(heads))


def _keep_prediction(request: PropagateRequest, key: str, result: Result) -> None:
    """Write what the committee said of a structure that asks for its label.

    One that is there stays: members may have trained on the structure since.
    """
    path = request.run.prediction(key)
    if result.crossing is None or path.exists():
        return
    asked = result.checks[-1]
    free = _counted(request.settings, result)
    save_prediction(path, result.crossing, asked.trajectory, asked.step, asked.threshold, free)


def _counted(settings: Settings, result: Result) -> NDArray[np.bool_] | None:
    """Return of which atoms the uncertainty is, (N,); None: of all."""
    return result.free if settings.al.uncertainty_of == "free_atoms" else None


def _identity(settings: Settings, geometry: int) -> dict[str, object]:
    """Return the identity of the reference that labels a geometry's structures."""
    return build_reference(settings.reference_of(geometry), settings.directory).identity()


def _looks(request: PropagateRequest, result: Result, before: Trajectory) -> list[Look]:
    """Write the structures to analyse with the committee's predictions; return their entries."""
    looks = []
    for look in result.looks:
        identity = _identity(request.settings, before.geometry)
        key = keep_structure(request.run, look.structure, identity)
        path, free = request.run.prediction(key), _counted(request.settings, result)
        save_prediction(path, look.prediction, look.trajectory, look.step, look.threshold, free)
        looks.append(
            Look(trajectory=look.trajectory, step=look.step, key=key, threshold=look.threshold)
        )
    return looks
