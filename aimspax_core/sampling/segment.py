"""A segment: the stretch of a batch of trajectories that one task propagates.

All trajectories advance in lockstep on the committee's mean forces, or on those of another driver,
each until it halts: it crossed the threshold, exploded, has made all its steps, or the segment's
time budget is over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics

from aimspax_core.errors import ExplodedError, StructureError
from aimspax_core.sampling.dynamics import MDState, capture, resume
from aimspax_core.sampling.lockstep import (
    Evaluate,
    LockstepCalculator,
    LockstepStats,
    run_lockstep,
    volume_guard,
)
from aimspax_core.sampling.segment_outcomes import Check, Look, Outcome, Result
from aimspax_core.sampling.snapshots import Snapshot
from aimspax_core.structures import decode, encode
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf, judged
from aimspax_core.uncertainty.measures import Measure, UncertaintyType, measure_of
from aimspax_core.uncertainty.threshold import Window, check

if TYPE_CHECKING:
    from aimspax_core.prediction import Prediction
    from aimspax_core.settings.md import Dynamics


@dataclass(frozen=True)
class SegmentSettings:
    """What decides where trajectories are checked and where they halt.

    Attributes:
        skip_step: Steps from one check to the next, counted over a trajectory's life.
        c_x: Margin of the threshold.
        uncertainty_type: Name of the measure of the committee's disagreement.
        uncertainty_of: Whether it is of all atoms, or without those that cannot move.
        max_steps: Steps of a trajectory's life; may be infinite.
        uncertain_limit: Steps without a crossing after which a structure is taken anyway
            (`uncert_not_crossed_limit`); may be infinite.
        max_force: Largest force on an atom that is not an explosion, in eV/Å.
        time_budget_s: Time after which trajectories halt at their next check.
        look_every: Steps of a trajectory's life from one look to the next; None: no looks.
        snapshot_every: Likewise for snapshots.
        random_share: Share of the checks at which chance takes the structure, in place of its
            uncertainty, once there is a threshold; None: its uncertainty does.
    """

    skip_step: int
    c_x: float
    uncertainty_type: UncertaintyType
    max_steps: float
    uncertain_limit: float
    max_force: float
    time_budget_s: float
    look_every: int | None = None
    snapshot_every: int | None = None
    uncertainty_of: UncertaintyOf = "all"
    random_share: float | None = None


@dataclass(frozen=True)
class Start:
    """Where a trajectory goes on.

    Attributes:
        trajectory: Its index.
        state: Its full MD state.
        md: Its dynamics.
        since_crossing: Steps made since its last crossing.
        volume: Of the cell in which its life began, in Å³: the later ones are guarded against it,
            wherever the life is cut. None: that of the state.
        most: Steps after which it halts at its next check; may be infinite.
        window: Which of the segment's windows judges it.
        chance: The random number, from 0 to 1, of each step of its life, for `random_share`.
    """

    trajectory: int
    state: MDState
    md: Dynamics
    since_crossing: int = 0
    volume: float | None = None
    most: float = inf
    window: int = 0
    chance: Callable[[int], float] | None = None


@dataclass(frozen=True)
class SegmentResult:
    """Results in the trajectories' order, all checks in the order made, and the cost."""

    results: tuple[Result, ...]
    checks: tuple[Check, ...]
    stats: LockstepStats


def run_segment(
    starts: Sequence[Start],
    settings: SegmentSettings,
    windows: Sequence[Window],
    evaluate: Evaluate,
    check_structure: Callable[[Atoms], None],
    judge: Evaluate | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SegmentResult:
    """Propagate trajectories until each has halted.

    A trajectory is checked wherever its step is a multiple of `skip_step`, except where it starts:
    there it was checked before. So each makes at least one check, and every segment advances it.
    All checks share a window, or those of one geometry do, in the order of lockstep rounds, then of
    trajectories; a structure that is refused does not enter it. Looks and snapshots change nothing
    for the trajectories, and looks do not enter a window. Where the judgement is not finite there
    is no look or snapshot.

    Args:
        starts: The trajectories, each at most once, each with its own dynamics.
        settings: Where to check and halt, and what to keep.
        windows: The memory of each moving threshold at the start of the segment.
        evaluate: The driver's predictions, with stress if one of the dynamics needs it; such as
            `Committee.evaluate`.
        check_structure: Raises StructureError for a structure that no reference should see.
        judge: The committee's predictions where another model drives: asked for at checks, looks
            and snapshots only. None: the committee drives.
        clock: Time in seconds; the time budget counts from this call.

    Returns:
        Positions, momenta and noise are those of an unbroken run, however it is cut, as exactly
        as the evaluation repeats itself: to the last bit on a CPU and in the same batches.

    Raises:
        Exception: What the evaluation, the settings or a programming mistake raises. What happens
            to one trajectory (StructureError, ExplodedError) is its result instead.
    """
    measure = measure_of(settings.uncertainty_type)
    segment = _Segment(settings, measure, list(windows), evaluate, check_structure, clock, clock())
    ordered = sorted(starts, key=lambda start: start.trajectory)
    jobs = [partial(segment.propagate, start) for start in ordered]
    run = run_lockstep(jobs, segment.predict, judge)
    results = []
    for outcome in run.outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        results.append(outcome)
    return SegmentResult(tuple(results), tuple(segment.checks), run.stats)


@dataclass
class _Walk:
    """What one trajectory has done in the segment so far."""

    start: Start
    steps: int = 0
    checks: list[Check] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    said: Prediction | None = None  # by the committee, at the last check

    @property
    def step(self) -> int:
        """Steps made in the trajectory's life."""
        return self.start.state.step + self.steps

    @property
    def since_crossing(self) -> int:
        return self.start.since_crossing + self.steps

    def due(self, every: int | None) -> bool:
        """Return whether something that is done every so many steps is done now."""
        return every is not None and self.step % every == 0

    def result(self, outcome: Outcome, state: MDState | None, reason: str = "") -> Result:
        return Result(
            trajectory=self.start.trajectory,
            outcome=outcome,
            state=state,
            steps=self.steps,
            checks=tuple(self.checks),
            since_crossing=0 if outcome is Outcome.CROSSED else self.since_crossing,
            looks=tuple(self.looks),
            snapshots=tuple(self.snapshots),
            reason=reason,
            crossing=self.said if outcome is Outcome.CROSSED else None,
            free=self.start.state.held.movable(len(self.start.state.structure)),
        )


_GOES_ON: tuple[None, str] = None, ""


@dataclass
class _Segment:
    """What the trajectories of a segment share: settings, the windows, the clock."""

    settings: SegmentSettings
    measure: Measure
    windows: list[Window]
    evaluate: Evaluate
    check_structure: Callable[[Atoms], None]
    clock: Callable[[], float]
    began: float
    over: bool = False
    checks: list[Check] = field(default_factory=list)

    def predict(self, structures: Sequence[Atoms]) -> Sequence[Prediction]:
        """Evaluate one round's structures and read the clock.

        The clock is read once a round, so that all checks of a round see the same time:
        trajectories that are in step stay in step across the cut, and share the window in the order
        of an unbroken run.
        """
        predictions = self.evaluate(structures)
        self.over = self.clock() - self.began >= self.settings.time_budget_s
        return predictions

    def propagate(self, start: Start, calculator: LockstepCalculator) -> Result:
        """Advance one trajectory until it halts."""
        walk = _Walk(start)
        if walk.step >= self.settings.max_steps:
            return walk.result(Outcome.FINISHED, start.state)
        calculator.guard = volume_guard(start.state.structure, start.volume)
        try:
            dynamics, rng = resume(start.state, start.md, calculator)
            for _ in self._steps(walk, dynamics, calculator):
                outcome, reason = self._stop(walk, dynamics.atoms, calculator)
                if outcome is not None:
                    state = capture(dynamics, rng, walk.step, start.state.held)
                    return walk.result(outcome, state, reason)
        # An integrator whose barostat is no longer finite fails in the algebra of its cell.
        except (ExplodedError, StructureError, np.linalg.LinAlgError) as error:
            return walk.result(Outcome.EXPLODED, None, str(error))
        raise AssertionError("a trajectory ran out of steps")

    def _steps(
        self, walk: _Walk, dynamics: MolecularDynamics, calculator: LockstepCalculator
    ) -> Iterator[None]:
        """Advance step by step without end, guarding every step.

        Raises:
            ExplodedError: Something is not finite (see LockstepCalculator), or a force too large.
        """
        for _ in dynamics.irun(sys.maxsize):
            made = dynamics.nsteps > walk.steps  # ASE yields once before the first step
            walk.steps = dynamics.nsteps
            largest = np.linalg.norm(calculator.prediction.forces, axis=1).max()
            if largest > self.settings.max_force:
                raise ExplodedError(
                    f"a force of {largest:.4g} eV/Å at step {walk.step} "
                    f"(max_force: {self.settings.max_force:g})"
                )
            if made:
                yield

    def _stop(
        self, walk: _Walk, atoms: Atoms, calculator: LockstepCalculator
    ) -> tuple[Outcome | None, str]:
        """Check, look and take a snapshot if they are due at a step.

        Returns:
            Why the trajectory halts (None: it goes on), and the reason; see `Result`.
        """
        check_due = walk.due(self.settings.skip_step)
        look_due = walk.due(self.settings.look_every)
        snapshot_due = walk.due(self.settings.snapshot_every)
        over = (Outcome.FINISHED, "") if walk.step >= self.settings.max_steps else _GOES_ON
        if not (check_due or look_due or snapshot_due):
            return over
        structure = decode(encode(atoms))
        if check_due:
            self.check_structure(structure)
        prediction = calculator.judgement(atoms)
        free = walk.start.state.held.movable(len(structure))
        part = judged(self.settings.uncertainty_of, prediction, structure, free)
        uncertainty = self.measure.function(*part)
        if not isfinite(uncertainty):
            if not check_due:
                return over
            raise ExplodedError(f"the uncertainty at step {walk.step} is not a finite number")
        verdict: tuple[Outcome | None, str] = over
        if check_due:
            walk.said = prediction
            verdict = self._check(walk, uncertainty)
        if look_due and (check_due or self._passes(structure)):
            threshold = self.windows[walk.start.window].threshold(self.settings.c_x)
            walk.looks.append(
                Look(walk.start.trajectory, walk.step, structure, prediction, threshold)
            )
        if snapshot_due:
            moving = structure.copy()
            moving.set_momenta(atoms.get_momenta())
            walk.snapshots.append(
                Snapshot(
                    moving,
                    walk.step,
                    prediction.energy,
                    prediction.forces,
                    prediction.member_forces,
                    uncertainty if check_due else None,
                )
            )
        return verdict

    def _check(self, walk: _Walk, uncertainty: float) -> tuple[Outcome | None, str]:
        """Compare an uncertainty with the threshold; return as `_stop` does."""
        which = walk.start.window
        self.windows[which], threshold, crossed = check(
            self.windows[which], uncertainty, self.settings.c_x
        )
        made = Check(walk.start.trajectory, walk.step, uncertainty, threshold)
        walk.checks.append(made)
        self.checks.append(made)
        share, chance = self.settings.random_share, walk.start.chance
        if share is not None and chance is not None:
            # As with the uncertainty, nothing is taken before there is a threshold.
            if threshold is not None and chance(walk.step) < share:
                return Outcome.CROSSED, "random"
        elif crossed:
            return Outcome.CROSSED, "uncertainty"
        if walk.since_crossing >= self.settings.uncertain_limit:
            return Outcome.CROSSED, "limit"
        if walk.step >= self.settings.max_steps:
            return Outcome.FINISHED, ""
        halts = self.over or walk.steps >= walk.start.most
        return (Outcome.RUNNING if halts else None), ""

    def _passes(self, structure: Atoms) -> bool:
        try:
            self.check_structure(structure)
        except StructureError:
            return False
        return True
