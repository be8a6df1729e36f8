"""Many ASE integrators side by side, their force calls answered by one batched evaluation.

Each job runs in its own greenlet. Where its integrator asks for forces, the calculator hands the
structure to a hub and sleeps; once every live job waits, the hub evaluates all structures at once
and wakes the jobs in order with their answers. An integrator sees an ordinary ASE calculator.

Where one model drives and a committee judges, a job may also ask for the committee's prediction, a
judgement; all judgements asked for in a round are evaluated at once, too.
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
    from aimspax_core.prediction import Prediction

MAX_VOLUME_FACTOR = 8.0
"""By what factor a cell's volume may grow or shrink before it counts as exploded."""

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


@dataclass(frozen=True)
class LockstepRun(Generic[T]):
    """What the jobs returned, or the exception that ended them, in their order; and the cost."""

    outcomes: tuple[T | Exception, ...]
    stats: LockstepStats


def volume_guard(atoms: Atoms, volume: float | None = None) -> Callable[[Atoms], None]:
    """Return a function that raises ExplodedError once a cell has exploded or collapsed.

    Args:
        atoms: N atoms in a cell (Å). Where it is not periodic in all three directions there is
            nothing to guard.
        volume: What later cells are compared with, in Å³; None: the volume of this one.
    """
    first = atoms.cell.volume if volume is None else volume
    if not atoms.pbc.all():
        return lambda _: None

    def check(later: Atoms) -> None:
        now = later.cell.volume
        # Written so that NaN fails it.
        if not first / MAX_VOLUME_FACTOR <= now <= first * MAX_VOLUME_FACTOR:
            raise ExplodedError(
                f"the cell has {now / len(later):.4g} Å³ an atom, and had "
                f"{first / len(later):.4g} Å³: it has exploded or collapsed"
            )

    return check


@dataclass(frozen=True)
class _Request:
    """What a sleeping job waits for: the driver's prediction of a structure, or a judgement."""

    atoms: Atoms
    judge: bool = False


class LockstepCalculator(Calculator):
    """The ASE calculator of one job; an unchanged structure is not asked for again.

    `results["prediction"]` holds the whole prediction of the last structure, so that a driving
    committee's spread costs no further evaluation.

    Attributes:
        guard: Called with every structure before it is evaluated; what it raises ends the job.

    Args:
        hub: Answers requests.
        apart: Whether the committee that judges is another than the driver.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(self, hub: greenlet, apart: bool = False) -> None:
        super().__init__()
        self._hub = hub
        self._apart = apart
        self.guard: Callable[[Atoms], None] | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = (),
    ) -> None:
        """Sleep until the hub has evaluated the structure.

        Raises:
            ExplodedError: A position, cell vector, predicted force or stress is not finite.
        """
        assert atoms is not None
        # Asking with NaN would cost the others nothing, but a force must never follow from one.
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise ExplodedError("a position or cell vector is not a finite number")
        if self.guard is not None:
            self.guard(atoms)
        self.atoms = atoms.copy()  # what ASE compares the next structure with
        prediction = self._hub.switch(_Request(atoms))
        if not np.isfinite(prediction.forces).all():
            raise ExplodedError("a predicted force is not a finite number")
        if prediction.stress is not None and not np.isfinite(prediction.stress).all():
            raise ExplodedError("a predicted stress is not a finite number")
        self.results = _as_results(prediction)

    @property
    def prediction(self) -> Prediction:
        """The driver's prediction of the structure last asked for."""
        return self.results["prediction"]

    def judgement(self, atoms: Atoms) -> Prediction:
        """Return the committee's prediction of the structure that `atoms` are in now.

        It is at hand where the committee drives; else the job sleeps until the hub has it.
        """
        if self._apart:
            return self._hub.switch(_Request(atoms, judge=True))
        self.get_property("forces", atoms)
        return self.prediction


def run_lockstep(
    jobs: Sequence[Callable[[LockstepCalculator], T]],
    evaluate: Evaluate,
    judge: Evaluate | None = None,
) -> LockstepRun[T]:
    """Run jobs side by side until each has returned or raised.

    Args:
        jobs: Functions that use the calculator they are given, each of its own. Between two
            evaluations they run one after another, in order: they may share state without locks.
        evaluate: Predicts the structures of all waiting jobs, in the jobs' order.
        judge: Predicts structures that a judgement is asked for; None: that of `evaluate` is one.

    Returns:
        Each job's return value, or the exception that ended it and it alone; and the cost.

    Raises:
        Exception: Whatever `evaluate` or `judge` raises; the jobs are then given up.
    """
    hub = getcurrent()
    workers = [greenlet(_catching(job, hub, judge is not None), parent=hub) for job in jobs]
    for worker in workers:
        # A job that logs or caches through context variables finds those of its caller.
        worker.gr_context = contextvars.copy_context()
    outcomes: list[Any] = [None] * len(workers)
    stats = LockstepStats()
    answers: dict[int, Prediction | None] = dict.fromkeys(range(len(workers)))
    try:
        while answers:
            requests: dict[int, Any] = {}
            for i, answer in answers.items():
                reply = workers[i].switch(answer)
                (outcomes if workers[i].dead else requests)[i] = reply
            answers = dict.fromkeys(requests)  # in the jobs' order, whatever each waits for
            for ask, judging in ((evaluate, False), (judge, True)):
                asked = {i: r.atoms for i, r in requests.items() if r.judge == judging}
                if asked:
                    assert ask is not None
                    predictions, stats = _timed(ask, list(asked.values()), stats)
                    answers.update(zip(asked, predictions, strict=True))
    finally:
        for worker in workers:
            if not worker.dead:
                worker.throw()
    return LockstepRun(tuple(outcomes), stats)


def _catching(
    job: Callable[[LockstepCalculator], T], hub: greenlet, apart: bool
) -> Callable[[Any], T | Exception]:
    """Return the job as a greenlet's function, which returns what the job raises."""

    def run(_: Any) -> T | Exception:
        try:
            return job(LockstepCalculator(hub, apart))
        # Whatever ends one trajectory is that trajectory's result; the others go on.
        except Exception as error:
            return error

    return run


def _timed(
    evaluate: Evaluate, structures: list[Atoms], stats: LockstepStats
) -> tuple[Sequence[Prediction], LockstepStats]:
    """Evaluate structures and add the cost to the account."""
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
