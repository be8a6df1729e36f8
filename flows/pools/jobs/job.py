"""A Slurm job of a pool as it was last seen, and what its end means for what it computed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aimspax_core.labels.tries import Fate
from aimspax_core.text import duration_text
from flows.pools.jobs.slurm import ENDED, RUNNING
from flows.pools.workers import WorkerLostError

SUBMITTED = "SUBMITTED"
"""State of a job that Slurm has not listed yet."""

_FITS = 1.3
"""A task begins where there is so many times what it takes."""

_MOST = 0.9
"""Part of a job's whole time that a task may need at most to be begun at all."""


@dataclass
class Block:
    """A job of a pool, from its script to its end; times are of the monotonic clock.

    Attributes:
        name: Of its worker, and of its script.
        script: By which Slurm's list shows whose it is.
        submitted: When.
        id: Its number; empty while Slurm has not said it.
        state: As Slurm has it.
        reason: Why it waits or ended, as Slurm has it.
        nodes: Where it runs.
        deadline: When its time is over; None without a limit, or while it does not run.
        ends: The same, and kept after it has ended.
        began: Since when it runs.
        start: The same as Slurm writes it.
        idle_since: Since when its workers have nothing to do.
        seen: When Slurm last listed it.
        staffed: Whether a worker of it has come since it began.
        leaving: Whether we have asked Slurm to end it.
        requeued: Whether Slurm has put it back into the queue.
        used: Whether it has had work since it began.
        alone_since: Since when it runs without a worker.
        ending_since: Since when Slurm is about to end it.
    """

    name: str
    script: Path
    submitted: float
    id: str = ""
    state: str = SUBMITTED
    reason: str = ""
    nodes: str = ""
    deadline: float | None = None
    ends: float | None = None
    began: float | None = None
    start: str = ""
    idle_since: float | None = None
    seen: float = 0.0
    staffed: bool = False
    leaving: bool = False
    requeued: bool = False
    used: bool = False
    alone_since: float | None = None
    ending_since: float | None = None

    @property
    def live(self) -> bool:
        """Whether it waits or runs, and should."""
        return self.state not in ENDED and not self.leaving

    @property
    def running(self) -> bool:
        """Whether it runs, and should."""
        return self.state in RUNNING and not self.leaving

    @property
    def row(self) -> dict[str, str]:
        """The job in words, for a table."""
        return {
            "job": self.id,
            "state": self.state.lower(),
            "why": "" if self.reason == "None" else self.reason,
            "nodes": self.nodes,
            "ends": _clock(self.deadline - time.monotonic()) if self.deadline else "",
        }

    def fits(self, seconds: float | None, walltime_s: float | None) -> bool:
        """Tell whether a task that takes so long may begin in this job.

        Args:
            seconds: What it takes; None if that is not known.
            walltime_s: The time limit of such jobs, if there is one.
        """
        if walltime_s is None and self.deadline is None:
            return True
        now = time.monotonic()
        left = (self.deadline or now + (walltime_s or 0.0)) - now
        whole = walltime_s or left + now - (self.began or now)
        if not self.used and left > whole / 2:
            return True  # no other job could give it much more
        margin = margin_s(whole)
        return left - margin > min(_FITS * (seconds or 0.0), _MOST * (whole - margin))

    def nearly_over(self, walltime_s: float | None) -> bool:
        """Tell whether it runs, and a worker may have left it in order, before its time limit."""
        if not self.running or self.deadline is None:
            return False
        return self.deadline - time.monotonic() < 2 * margin_s(walltime_s or math.inf)

    def __str__(self) -> str:
        """Return what users know it by."""
        return f"Slurm job {self.id or '(no number yet)'}"


def told(job: Block, walltime_s: float | None, silent: bool) -> WorkerLostError | None:
    """Say what became of a job's worker; None while Slurm has not said it yet."""
    if job.leaving:
        return WorkerLostError(f"{job} was given back", Fate.INTERRUPTED)
    if job.requeued and (job.began is None or not job.staffed):
        return requeued(job)
    if job.state in ENDED:
        return WorkerLostError(f"{job} {ending(job, walltime_s)}", fate(job, walltime_s))
    if silent:
        return WorkerLostError(
            f"the worker of {job} was lost while Slurm is silent", Fate.INTERRUPTED
        )
    return None


def requeued(job: Block) -> WorkerLostError:
    """Say that a job was put back into the queue."""
    why = "" if job.reason in {"None", ""} else f" ({job.reason})"
    return WorkerLostError(f"{job} was requeued{why}", Fate.INTERRUPTED)


def left_in_time(job: Block, walltime_s: float | None) -> WorkerLostError:
    """Say that a worker left in order while its job, or another worker of it, still runs."""
    limit = f" ({duration_text(walltime_s)})" if walltime_s else ""
    return WorkerLostError(
        f"the worker of {job} left before its time limit{limit}", Fate.OUT_OF_TIME
    )


def fate(job: Block, walltime_s: float | None) -> Fate:
    """Say what the end of a job means for what it computed.

    A worker ends in order when its time is nearly over, and when it has lost the flow.
    """
    margin = margin_s(walltime_s or math.inf)
    late = job.ends is not None and time.monotonic() > job.ends - 2 * margin
    if job.state == "TIMEOUT" or (job.state == "COMPLETED" and late):
        return Fate.OUT_OF_TIME
    blame = job.state in {"FAILED", "OUT_OF_MEMORY"} or "memory" in job.reason.lower()
    return Fate.DIED if blame else Fate.INTERRUPTED


def ending(job: Block, walltime_s: float | None) -> str:
    """Say how a job ended."""
    limit = f" ({duration_text(walltime_s)})" if walltime_s else ""
    words = {
        "TIMEOUT": f"came to its time limit{limit}",
        "COMPLETED": "ended in order",
        "CANCELLED": "was cancelled",
        "PREEMPTED": "was preempted",
        "NODE_FAIL": "lost its node",
        "OUT_OF_MEMORY": "ran out of memory",
        "FAILED": "failed",
    }
    told = words.get(job.state, f"ended as {job.state}")
    where = f" on {job.nodes}" if job.nodes else ""
    why = "" if job.reason in {"None", ""} else f" ({job.reason})"
    return f"{told}{where}{why}"


def margin_s(walltime_s: float) -> float:
    """Return how long before its time limit (s) a job's worker has left."""
    return min(60.0, max(3.0, 0.05 * walltime_s))


def _clock(seconds: float) -> str:
    """Return the time of day after so many seconds."""
    return (datetime.now() + timedelta(seconds=seconds)).strftime("%d %b %H:%M")
