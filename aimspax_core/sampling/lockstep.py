"""Many ASE integrators side by side, their force calls answered by one batched evaluation.

Each job runs in its own greenlet. Where its integrator asks for forces, the calculator hands the
structure to a hub and sleeps; once every live job waits, the hub evaluates all structures at once
and wakes the jobs in order with their answers. No integrator needs to know.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress
from greenlet import getcurrent, greenlet

from aimspax_core.errors import ExplodedError

if TYPE_CHECKING:
    from aimspax_core.model.committee import Prediction

T = TypeVar("T")
Evaluate = Callable[[Sequence[Atoms]], Sequence["Prediction"]]
"""Predicts structures, in order; stress only if the integrators need it."""


@dataclass(frozen=True)
class LockstepStats:
    """What a lockstep run cost.

    Attributes:
        evaluations: Batched evaluations made.
        structures: Structures evaluated in them.
        seconds: Time spent in them.
    """

    evaluations: int = 0
    structures: int = 0
    seconds: float = 0.0

    @property
    def mean_batch_size(self) -> float:
        """Structures an evaluation; 0 if there was none."""
        return self.structures / self.evaluations if self.evaluations else 0.0


@dataclass(frozen=True)
class LockstepRun(Generic[T]):
    """What the jobs returned, or the exception that ended them, in their order; and the cost."""

    outcomes: tuple[T | Exception, ...]
    stats: LockstepStats


class LockstepCalculator(Calculator):
    """The ASE calculator of one job; an unchanged structure is not asked for again.

    `results["prediction"]` holds the committee's whole prediction of the last structure, so that
    its spread costs no further evaluation.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(self, hub: greenlet) -> None:
        super().__init__()
        self._hub = hub

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = (),
    ) -> None:
        """Sleep until the hub has evaluated the structure.

        Raises:
            ExplodedError: A position, cell vector or predicted force is not finite.
        """
        assert atoms is not None
        # Asking with NaN would cost the others nothing, but a force must never follow from one.
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise ExplodedError("a position is not a finite number")
        self.atoms = atoms.copy()  # what ASE compares the next structure with
        prediction = self._hub.switch(atoms)
        if not np.isfinite(prediction.forces).all():
            raise ExplodedError("a predicted force is not a finite number")
        self.results = _as_results(prediction)

    @property
    def prediction(self) -> Prediction:
        """The committee's prediction of the structure last asked for."""
        return self.results["prediction"]


def run_lockstep(
    jobs: Sequence[Callable[[LockstepCalculator], T]], evaluate: Evaluate
) -> LockstepRun[T]:
    """Run jobs side by side until each has returned or raised.

    Args:
        jobs: Functions that use the calculator they are given, each of its own. Between two
            evaluations they run one after another, in order: they may share state without locks.
        evaluate: Predicts the structures of all waiting jobs, in the jobs' order.

    Returns:
        Each job's return value, or the exception that ended it and it alone; and the cost.

    Raises:
        Exception: Whatever `evaluate` raises; the jobs are then given up.
    """
    hub = getcurrent()
    workers = [greenlet(_catching(job, hub), parent=hub) for job in jobs]
    for worker in workers:
        # A job that logs or caches through context variables finds those of its caller.
        worker.gr_context = contextvars.copy_context()
    outcomes: list[Any] = [None] * len(workers)
    stats = LockstepStats()
    answers: dict[int, Prediction | None] = dict.fromkeys(range(len(workers)))
    try:
        while answers:
            requests: dict[int, Atoms] = {}
            for i, answer in answers.items():
                reply = workers[i].switch(answer)
                (outcomes if workers[i].dead else requests)[i] = reply
            predictions, stats = _timed(evaluate, list(requests.values()), stats)
            answers = dict(zip(requests, predictions, strict=True))
    finally:
        for worker in workers:
            if not worker.dead:
                worker.throw()
    return LockstepRun(tuple(outcomes), stats)


def _catching(
    job: Callable[[LockstepCalculator], T], hub: greenlet
) -> Callable[[Any], T | Exception]:
    """Return the job as a greenlet's function, which returns what the job raises."""

    def run(_: Any) -> T | Exception:
        try:
            return job(LockstepCalculator(hub))
        # Whatever ends one trajectory is that trajectory's result; the others go on.
        except Exception as error:
            return error

    return run


def _timed(
    evaluate: Evaluate, structures: list[Atoms], stats: LockstepStats
) -> tuple[Sequence[Prediction], LockstepStats]:
    """Evaluate structures, if any, and add the cost to the account."""
    if not structures:
        return (), stats
    begin = time.perf_counter()
    predictions = evaluate(structures)
    return predictions, LockstepStats(
        stats.evaluations + 1,
        stats.structures + len(structures),
        stats.seconds + time.perf_counter() - begin,
    )


def _as_results(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as an ASE calculator's results."""
    results = {
        "energy": prediction.energy,
        "free_energy": prediction.energy,
        "forces": prediction.forces,
        "prediction": prediction,
    }
    if prediction.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
    return results
