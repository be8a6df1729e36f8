"""A job of a pool as its scheduler last listed it, and what its end means for what it computed.

Times are of one clock that only runs forward (`time.monotonic`), in seconds; `now` is such a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aimspax_core.labels.tries import Fate
from aimspax_core.text import duration_text
from flows.pools.jobs.scheduler import State
from flows.pools.workers import WorkerLostError

_FITS = 1.3
"""A task begins in a job that has so many times what the task takes."""

_MOST = 0.9
"""Part of a job's whole time that a task may need at most to be begun at all."""


@dataclass(frozen=True)
class Job:
    """A job of a pool, from its script to its end.

    Attributes:
        name: Of its script and of its worker; several workers have a number behind it.
        scheduler: What users call the scheduler.
        walltime_s: Time limit of such jobs (s); None if there is none.
        submitted_at: When it was submitted.
        id: What the scheduler calls it; empty while the scheduler has not said that.
        state: What it does, or how it ended.
        state_text: The same in the scheduler's own word.
        reason: Why it waits or ended, in the scheduler's words; empty if they are not known.
        stuck: Whether it waits for a reason that does not go away by itself.
        nodes: Where it runs.
        ends_at: When it comes to its time limit; kept after its end. None without a limit, or while
            it waits.
        listed_at: When the scheduler last listed it; 0 before.
        began_at: When it was first seen running, since it was last in the queue.
        start: When it began, as the scheduler writes it.
        idle_since: Since when its workers have had nothing to do; None while they have.
        alone_since: Since when it has run without a worker; None while it has one.
        ending_since: Since when the scheduler has been ending it.
        staffed: Whether a worker of it has come since it began.
        newest: Address of the worker of it that came last.
        leaving: Whether the pool has given it back.
        given_back: Why it has.
        requeued: Whether it was put back into the queue.
        used: Whether it has had work since it began.
    """

    name: str
    scheduler: str
    walltime_s: float | None
    submitted_at: float
    id: str = ""
    state: State = State.SUBMITTED
    state_text: str = ""
    reason: str = ""
    stuck: bool = False
    nodes: str = ""
    ends_at: float | None = None
    listed_at: float = 0.0
    began_at: float | None = None
    start: str = ""
    idle_since: float | None = None
    alone_since: float | None = None
    ending_since: float | None = None
    staffed: bool = False
    newest: str = ""
    leaving: bool = False
    given_back: str = ""
    requeued: bool = False
    used: bool = False

    @property
    def live(self) -> bool:
        """Whether it waits or runs, and is to."""
        return not self.state.is_over and not self.leaving

    @property
    def running(self) -> bool:
        """Whether it runs, and is to."""
        return self.state is State.RUNNING and not self.leaving

    def row(self, now: float) -> dict[str, str]:
        """Return the job as a row of a table."""
        ends = self.ends_at if self.running else None
        going = self.leaving and not self.state.is_over
        left = f"given back: {self.given_back}" if self.given_back else ""
        return {
            "job": self.id,
            "state": "given back" if going else (self.state_text or self.state).lower(),
            "why": self.given_back if going else left or self.reason,
            "nodes": self.nodes,
            "time limit at": "" if ends is None else _time_of_day(ends - now),
        }

    def fits(self, seconds: float | None, now: float) -> bool:
        """Tell whether a task that takes so long may begin in this job.

        Args:
            seconds: What the task takes; None if that is not known.
            now: The time.
        """
        ends_at = self.ends_at if self.state is State.RUNNING else None
        if self.walltime_s is None and ends_at is None:
            return True
        left = ends_at - now if ends_at is not None else self.walltime_s or 0.0
        whole = self.walltime_s or left + now - (now if self.began_at is None else self.began_at)
        if not self.used and left > whole / 2:
            return True  # no other job could give the task much more
        margin = margin_s(whole)
        return left - margin > min(_FITS * (seconds or 0.0), _MOST * (whole - margin))

    def nearly_over(self, now: float) -> bool:
        """Tell whether it runs so near to its time limit that its worker may have left in order."""
        if not self.running or self.ends_at is None:
            return False
        return self.ends_at - now < 2 * margin_s(self.walltime_s or math.inf)

    def fate(self, now: float) -> Fate:
        """Return what the end of this job means for what it computed.

        A worker ends in order when its time is nearly over, and when it has lost the flow.
        """
        margin = margin_s(self.walltime_s or math.inf)
        late = self.ends_at is not None and now > self.ends_at - 2 * margin
        if self.state is State.OUT_OF_TIME or (self.state is State.COMPLETED and late):
            return Fate.OUT_OF_TIME
        blame = self.state in {State.FAILED, State.OUT_OF_MEMORY}
        return Fate.DIED if blame or "memory" in self.reason.lower() else Fate.INTERRUPTED

    @property
    def ending_text(self) -> str:
        """How this job ended, where and why."""
        texts = {
            State.OUT_OF_TIME: f"came to its time limit{self._limit_text}",
            State.COMPLETED: "ended in order",
            State.CANCELLED: "was cancelled",
            State.PREEMPTED: "was preempted",
            State.NODE_LOST: "lost its node",
            State.OUT_OF_MEMORY: "ran out of memory",
            State.FAILED: "failed",
        }
        how = texts.get(self.state, f"ended as {self.state_text or self.state}")
        where = f" on {self.nodes}" if self.nodes else ""
        return f"{how}{where}{self._reason_text}"

    def lost_worker(self, now: float, silent: bool) -> WorkerLostError | None:
        """Return what became of a worker of this job that is gone; None while that is not known.

        Args:
            now: The time.
            silent: Whether the scheduler does not answer.
        """
        if self.leaving:
            return WorkerLostError(f"{self} was given back", Fate.INTERRUPTED)
        if self.requeued and (self.began_at is None or not self.staffed):
            return self.requeued_error
        if self.state.is_over:
            return WorkerLostError(f"{self} {self.ending_text}", self.fate(now))
        if silent:
            return WorkerLostError(
                f"the worker of {self} was lost while {self.scheduler} is silent", Fate.INTERRUPTED
            )
        return None

    @property
    def requeued_error(self) -> WorkerLostError:
        """What becomes of a worker whose job is put back into the queue."""
        return WorkerLostError(f"{self} was requeued{self._reason_text}", Fate.INTERRUPTED)

    @property
    def out_of_time_error(self) -> WorkerLostError:
        """What becomes of a worker that leaves in order while its job still runs."""
        return WorkerLostError(
            f"the worker of {self} left before its time limit{self._limit_text}", Fate.OUT_OF_TIME
        )

    @property
    def _limit_text(self) -> str:
        return f" ({duration_text(self.walltime_s)})" if self.walltime_s else ""

    @property
    def _reason_text(self) -> str:
        return f" ({self.reason})" if self.reason else ""

    def __str__(self) -> str:
        """Return what users know the job by."""
        return f"{self.scheduler} job {self.id or '(no number yet)'}"


def jobs_text(jobs: Iterable[Job]) -> str:
    """Return what the jobs of a pool do, in a few words; what has ended or is to end is left out.

    Why jobs wait is told, such as in `2 running, 1 pending (Priority)`.
    """
    words: Counter[str] = Counter()
    for job in jobs:
        if job.live:
            why = f" ({job.reason})" if job.reason and job.state is State.WAITING else ""
            words[f"{(job.state_text or job.state).lower()}{why}"] += 1
    return ", ".join(f"{count} {word}" for word, count in words.items()) or "none at the moment"


def margin_s(walltime_s: float) -> float:
    """Return how long before its time limit (s) the worker of a job has left."""
    return min(60.0, max(3.0, 0.05 * walltime_s))


def _time_of_day(seconds: float) -> str:
    """Return the time of day after so many seconds."""
    return (datetime.now() + timedelta(seconds=seconds)).strftime("%d %b %H:%M")
