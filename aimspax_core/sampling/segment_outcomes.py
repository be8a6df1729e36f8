"""What a segment made of each of its trajectories: checks, structures that are kept, the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.prediction import Prediction
from aimspax_core.sampling.dynamics import MDState
from aimspax_core.sampling.snapshots import Snapshot


@dataclass(frozen=True)
class Check:
    """One check of a trajectory: its life's step, and uncertainty and threshold by the measure."""

    trajectory: int
    step: int
    uncertainty: float
    threshold: float | None


@dataclass(frozen=True)
class Look:
    """A structure that is kept for analysis.

    Attributes:
        trajectory: Index of its trajectory.
        step: MD steps made in the trajectory's life.
        structure: The structure; it passed the check of structures.
        prediction: What the committee says of it.
        threshold: The threshold at that step; None during warm-up.
    """

    trajectory: int
    step: int
    structure: Atoms
    prediction: Prediction
    threshold: float | None


class Outcome(StrEnum):
    """Why a trajectory halted."""

    RUNNING = "running"
    CROSSED = "crossed"
    EXPLODED = "exploded"
    FINISHED = "finished"


@dataclass(frozen=True)
class Result:
    """What a segment made of one trajectory.

    Attributes:
        trajectory: Its index.
        outcome: Why it halted; RUNNING if only because the time budget was over, or it had made
            the steps that it may make.
        state: Its state where it halted, with the structure to label if it crossed; None if it
            exploded.
        steps: Steps made in this segment.
        checks: Its checks, in order.
        since_crossing: Steps since its last crossing; 0 if it crossed just now.
        looks: What was kept for analysis, in order.
        snapshots: Its snapshots, in order; also those before an explosion.
        reason: `uncertainty`, `random` or `limit` if it crossed, what happened if it exploded, else
            empty.
        crossing: Where it crossed, what the committee says of that structure.
        free: Which of its N atoms can move, (N,).
    """

    trajectory: int
    outcome: Outcome
    state: MDState | None
    steps: int
    checks: tuple[Check, ...]
    since_crossing: int
    looks: tuple[Look, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    reason: str = ""
    crossing: Prediction | None = None
    free: NDArray[np.bool_] | None = field(default=None, compare=False)
